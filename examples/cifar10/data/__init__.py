"""CIFAR-10 and CIFAR-100: arrays, `tf.data` pipelines, and augmentation by the backend."""

from examples.cifar10.data.arrays import load_arrays
from examples.cifar10.data.batches import ArrayBatches
from examples.cifar10.data.layers import RandomCropFlip, standardization
from examples.cifar10.data.pipelines import cifar10, cifar100

__all__ = [
    "ArrayBatches",
    "RandomCropFlip",
    "cifar10",
    "cifar100",
    "load_arrays",
    "standardization",
]
