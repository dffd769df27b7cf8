"""CIFAR-10 and CIFAR-100: arrays, `tf.data` pipelines, and augmentation by the backend."""

from data.arrays import load_arrays
from data.batches import ArrayBatches
from data.layers import RandomCropFlip, standardization
from data.pipelines import cifar10, cifar100

__all__ = [
    "ArrayBatches",
    "RandomCropFlip",
    "cifar10",
    "cifar100",
    "load_arrays",
    "standardization",
]
