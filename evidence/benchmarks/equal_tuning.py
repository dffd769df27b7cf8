"""One cycle, a constant rate and `CosineDecay` on the digits, 5 epochs, each at the best rate of one grid.

usage: python -m evidence.benchmarks.equal_tuning [--epochs N] [--seeds N] [--save] [--small]

The learning rates are chosen on a validation set, by two seeds that are not among those reported. What is
shown is the accuracy on a test set, that nothing was chosen by.
"""

import argparse
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import train_test_split

from evidence.benchmarks.measuring.saving import add_save, environment, write
from evidence.pages import table
from examples.quickstart import BATCH_SIZE, digits, network
from keras_onecycle import OneCycle

GRID = (0.01, 0.03, 0.1, 0.3)
TUNING_SEEDS = (100, 101)


def constant(rate: float, updates: int) -> tuple[keras.Optimizer, list[keras.callbacks.Callback]]:
    """SGD with momentum at one learning rate."""
    return keras.optimizers.SGD(rate, momentum=0.9), []


def cosine(rate: float, updates: int) -> tuple[keras.Optimizer, list[keras.callbacks.Callback]]:
    """The same with Keras's `CosineDecay`, from the learning rate down to 0."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, updates)
    return keras.optimizers.SGD(schedule, momentum=0.9), []


def one_cycle(rate: float, updates: int) -> tuple[keras.Optimizer, list[keras.callbacks.Callback]]:
    """The same with one cycle of the learning rate and of momentum, up to that learning rate."""
    return keras.optimizers.SGD(momentum=0.9), [OneCycle(max_lr=rate)]


METHODS: dict[str, Callable[..., Any]] = {
    "constant": constant,
    "CosineDecay": cosine,
    "OneCycle": one_cycle,
}


def measure(epochs: int, seeds: int, grid: tuple[float, ...] = GRID) -> dict[str, Any]:
    """Tunes and trains every method."""
    train, test = digits()
    parts = train_test_split(*train, test_size=300, stratify=train[1], random_state=0)
    fitted, validation = parts[::2], parts[1::2]

    def reached(name: str, rate: float, seed: int, judge: Any) -> list[float]:
        updates = epochs * -(-len(fitted[0]) // BATCH_SIZE)
        optimizer, callbacks = METHODS[name](rate, updates)
        model = network(seed, optimizer)
        model.fit(*fitted, BATCH_SIZE, epochs=epochs, verbose=0, callbacks=callbacks)
        return model.evaluate(*judge, verbose=0)

    grids = {
        name: [
            float(np.mean([reached(name, rate, seed, validation)[0] for seed in TUNING_SEEDS]))
            for rate in grid
        ]
        for name in METHODS
    }
    best = {name: grid[int(np.nanargmin(losses))] for name, losses in grids.items()}
    accuracy = {
        name: [100 * reached(name, best[name], seed, test)[1] for seed in range(seeds)]
        for name in METHODS
    }
    return {
        "environment": environment(),
        "epochs": epochs,
        "grid": list(grid),
        "validation_loss": grids,
        "best": best,
        "test_accuracy": accuracy,
    }


def markdown(figures: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [
        [
            name,
            f"{figures['best'][name]:g}",
            f"{np.mean(values):.2f}",
            f"{np.std(values, ddof=len(values) > 1):.2f}",
        ]
        for name, values in figures["test_accuracy"].items()
    ]
    header = [
        "training",
        "learning rate, best of the grid",
        "test accuracy (%)",
        "standard deviation",
    ]
    return table(header, rows)


def main() -> None:
    """Runs the comparison and writes what it saw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each training")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each kind")
    parser.add_argument("--small", action="store_true", help="only to see that it runs")
    add_save(parser)
    arguments = parser.parse_args()
    small = arguments.small
    figures = measure(1, 1, (0.03,)) if small else measure(arguments.epochs, arguments.seeds)
    write(__file__, figures, markdown(figures), save=arguments.save)


if __name__ == "__main__":
    main()
