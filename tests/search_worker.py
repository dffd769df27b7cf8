"""A worker of a search that tests share between processes.

usage: python tests/search_worker.py STORAGE LOG WORKERS KILL

It waits until so many WORKERS are there. Each setting that is begun is a line in the file LOG: the
process and the setting. The process kills itself in the middle of a training of its KILL-th setting,
unless that is 0.
"""

import os
import signal
import sys
import time
from pathlib import Path

import keras

import reference
from keras_onecycle.search import SearchResult, grid_search

GRID = {"units": [2, 3, 4], "dropout": [0.0, 0.2]}


class Log(keras.callbacks.Callback):
    """Writes a line for each setting that is begun, and kills the process as nothing can prevent."""

    def __init__(self, file: Path, last: int) -> None:
        super().__init__()
        # Not under the names of the arguments, in which workers of one search may not differ.
        self._log, self._killed_in = file, last
        self._begun: set[tuple] = set()

    def on_train_begin(self, logs: dict | None = None) -> None:
        setting = (self.model.layers[0].units, self.model.layers[1].rate)
        if setting not in self._begun:
            self._begun.add(setting)
            with self._log.open("a") as file:
                file.write(f"{os.getpid()} {setting[0]} {setting[1]}\n")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # In the middle of an epoch.
        if batch == 2 and len(self._begun) == self._killed_in:
            os.kill(os.getpid(), signal.SIGKILL)


def search(storage: str, log: Path, kill: int = 0) -> SearchResult:
    x, y = reference.data(48)

    def build(units: int, dropout: float) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(units, "tanh"),
                keras.layers.Dropout(dropout),
                keras.layers.Dense(1),
            ]
        )
        model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
        return model

    return grid_search(
        build,
        GRID,
        x,
        y,
        validation_data=reference.data(16, seed=1),
        max_lr=0.1,
        epochs=1,
        batch_size=8,
        storage=storage,
        grace_period=4,
        verbose=0,
        callbacks=[Log(log, kill)],
    )


def main(storage: str, log: str, workers: str, kill: str) -> None:
    folder = Path(log).parent
    (folder / f"ready-{os.getpid()}").touch()
    while len(list(folder.glob("ready-*"))) < int(workers):
        time.sleep(0.05)
    search(storage, Path(log), int(kill))


if __name__ == "__main__":
    main(*sys.argv[1:])
