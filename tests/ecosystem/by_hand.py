"""What the tests compare with: the network of `reference`, stepped eagerly with values by the formula."""

from typing import Any

import keras
import numpy as np

import reference

BATCH_SIZE = 16
# What `fit` is given, so that its batches are those of `trained`.
FIT: dict[str, Any] = {"batch_size": BATCH_SIZE, "shuffle": False, "verbose": 0}


def values(updates: int, max_lr: float) -> dict[str, np.ndarray]:
    """Learning rate and momentum of each update."""
    both = [reference.one_cycle(step, updates, max_lr=max_lr) for step in range(updates)]
    return {"learning_rate": np.array(both)[:, 0], "momentum": np.array(both)[:, 1]}


def compiled() -> keras.Model:
    """The network with SGD, as `trained` has it."""
    model = reference.build()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    return model


def trained(
    x: np.ndarray, y: np.ndarray, epochs: int, max_lr: float | None
) -> tuple[keras.Model, list[float]]:
    """The network after one cycle, or at its own rate with `max_lr=None`, and the loss of each batch."""
    model = reference.build()
    batches = reference.split(x, y, BATCH_SIZE) * epochs
    losses: list[float] = []

    def set_floats(optimizer: keras.Optimizer, update: int) -> None:
        inputs, targets = batches[update]
        losses.append(float(np.mean((reference.forward(model, inputs) - targets) ** 2)))
        if max_lr is not None:
            rate, momentum = reference.one_cycle(update, len(batches), max_lr=max_lr)
            optimizer.learning_rate, optimizer.momentum = rate, momentum

    reference.train_eagerly(model, keras.optimizers.SGD(0.01, momentum=0.9), batches, set_floats)
    return model, losses


def assert_unscheduled(optimizer: keras.Optimizer) -> None:
    """The optimizer has the values that `compiled` gave it, and a class of Keras's own."""
    assert type(optimizer) is keras.optimizers.SGD
    assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) == np.float32(0.01)
    assert optimizer.momentum == 0.9
