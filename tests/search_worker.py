"""A worker of a search that tests share between processes.

usage: python tests/search_worker.py URL LOG WORKERS KILL

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
import optuna

import reference
from keras_onecycle.search import SearchResult, grid_search

GRID = {"units": [2, 3, 4], "dropout": [0.0, 0.2]}


class Log(keras.callbacks.Callback):
    """Writes a line for each setting that is begun, and kills the process as nothing can prevent."""

    def __init__(self, file: Path, kill: int) -> None:
        super().__init__()
        self.file, self.kill = file, kill
        self.begun = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.begun += 1
        dense, dropout = self.model.layers[:2]
        with self.file.open("a") as file:
            file.write(f"{os.getpid()} {dense.units} {dropout.rate}\n")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # In the middle of an epoch.
        if batch == 2 and self.begun == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)


def shared(url: str) -> optuna.storages.RDBStorage:
    """A database whose workers give a sign of life, as the documentation has it."""
    return optuna.storages.RDBStorage(
        url,
        heartbeat_interval=1,
        grace_period=4,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )


def search(storage: str | optuna.storages.BaseStorage, log: Path, kill: int = 0) -> SearchResult:
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
        callbacks=[Log(log, kill)],
    )


def main(url: str, log: str, workers: str, kill: str) -> None:
    folder = Path(log).parent
    (folder / f"ready-{os.getpid()}").touch()
    while len(list(folder.glob("ready-*"))) < int(workers):
        time.sleep(0.05)
    search(shared(url) if url.startswith("postgresql") else url, Path(log), int(kill))


if __name__ == "__main__":
    main(*sys.argv[1:])
