"""Sets that are trained on, small enough for hundreds of trainings, and networks for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import train_test_split

from evidence.reproduction.mnist_lenet import lenet
from examples.cifar10 import data

Split = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# Of the training data and the number of classes; its outputs are logits.
Network = Callable[[np.ndarray, int], keras.Model]


def scikit(load: Callable[..., Any], seed: int) -> Split:
    """Returns half of one of scikit-learn's sets to train on and half to validate, standardised."""
    return halves(*load(return_X_y=True), seed)


def halves(x: np.ndarray, y: np.ndarray, seed: int) -> Split:
    """Returns half of a set to train on and half to validate, standardised."""
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


@cache
def diamonds(seed: int) -> Split:
    """Returns rows of the diamonds: nine numbers, of which colour and clarity are ranks, and the cut."""
    # An extra of its own: `pip install '.[benchmarks]'`.
    from plotnine.data import diamonds

    rows = diamonds.sample(20_000, random_state=0)
    x = rows.drop(columns="cut")
    for name in ("color", "clarity"):
        x[name] = x[name].cat.codes
    return halves(x.to_numpy("float32"), rows["cut"].cat.codes.to_numpy("int32"), seed)


@cache
def mnist(images: int = 2000) -> Split:
    """Returns so many images of MNIST to train on and as many to validate."""
    (x, y), (val_x, val_y) = lenet.data(None)
    return (x[:images], y[:images]), (val_x[:images], val_y[:images])


def classifier(x: np.ndarray, hidden: list[keras.layers.Layer], classes: int) -> keras.Model:
    """Returns hidden layers with an input before and a layer of logits behind."""
    return keras.Sequential([keras.Input(x.shape[1:]), *hidden, keras.layers.Dense(classes)])


def dense(*units: int) -> Network:
    """Returns what makes a network of dense layers with ReLU."""

    def make(x: np.ndarray, classes: int) -> keras.Model:
        flat = [keras.layers.Flatten()] if x.ndim > 2 else []
        return classifier(x, [*flat, *(keras.layers.Dense(n, "relu") for n in units)], classes)

    return make


def convolutional(x: np.ndarray, classes: int) -> keras.Model:
    """Returns three convolutions with batch normalization, each at half the resolution."""
    layers: list[keras.layers.Layer] = []
    for filters in (16, 32, 64):
        layers += [
            keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
        ]
    return classifier(x, [*layers, keras.layers.GlobalAveragePooling2D()], classes)


@dataclass
class Task:
    """A set, a network for it, and how long it is trained."""

    load: Callable[[int], Split]
    network: Network
    classes: int
    batch_size: int
    epochs: int
