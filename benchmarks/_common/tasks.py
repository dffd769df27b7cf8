"""Sets that are trained on, small enough for hundreds of trainings, and networks for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import train_test_split

from _common.cifar10 import data

Split = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def scikit(load: Callable[..., Any], seed: int) -> Split:
    """Returns half of one of scikit-learn's sets to train on and half to validate, standardised."""
    x, y = load(return_X_y=True)
    x, val_x, y, val_y = train_test_split(x, y, test_size=0.5, stratify=y, random_state=seed)
    # The corners of the digits are always white.
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std == 0] = 1
    x, val_x = (((part - mean) / std).astype("float32") for part in (x, val_x))
    return (x, y), (val_x, val_y)


@cache
def cifar(images: int = 2000) -> Split:
    """Returns so many images of CIFAR-10 to train on and as many to validate."""
    (x, y), (val_x, val_y) = data.load_arrays("cifar10", num_train=images)
    normal = data.standardization("cifar10")
    x, val_x = (np.asarray(normal(part)) for part in (x, val_x[:images]))
    return (x, y), (val_x, val_y[:images])


def mlp(hidden: Sequence[int]) -> list[keras.layers.Layer]:
    """Returns hidden layers."""
    return [keras.layers.Dense(units, "relu") for units in hidden]


def convolutions() -> list[keras.layers.Layer]:
    """Returns three convolutions with batch normalization, each at half the resolution."""
    layers: list[keras.layers.Layer] = []
    for filters in (16, 32, 64):
        layers += [
            keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
        ]
    return [*layers, keras.layers.GlobalAveragePooling2D()]


@dataclass
class Task:
    """A set, a network for it, and how long it is trained."""

    load: Callable[[int], Split]
    hidden: Callable[[], list[keras.layers.Layer]]
    classes: int
    batch_size: int
    epochs: int
