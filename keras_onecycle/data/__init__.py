"""CIFAR-10 and CIFAR-100: arrays, `tf.data` pipelines, and augmentation by the backend."""

from keras_onecycle.data.arrays import load_arrays
from keras_onecycle.data.batches import ArrayBatches
from keras_onecycle.data.layers import RandomCropFlip, standardization
from keras_onecycle.data.pipelines import cifar10, cifar100

__all__ = [
    "ArrayBatches",
    "RandomCropFlip",
    "cifar10",
    "cifar100",
    "load_arrays",
    "standardization",
]
