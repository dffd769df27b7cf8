"""A worker of a search that tests share between processes.

usage: python tests/search_worker.py URL LOG WORKERS KILL

It waits until so many WORKERS are there. Nothing is trained: the loss of a setting is its `units`. Each
`fit` is a line in the file LOG: the process and the setting. The process kills itself in its KILL-th `fit`,
unless that is 0.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import optuna

import untrained
from keras_onecycle.search import SearchResult, grid_search

GRID = {"units": [2, 3, 4], "dropout": [0.0, 0.2]}


class Killed(untrained.Untrained):
    """Takes a moment to fit, writes that down, and kills the process as nothing can prevent."""

    def __init__(self, setting: tuple[int, float], log: Path, fits: list[dict], kill: int) -> None:
        super().__init__(fits, value=setting[0])
        self._line = f"{os.getpid()} {setting[0]} {setting[1]}\n"
        self._log, self._is_last = log, lambda: len(fits) == kill

    def fit(self, *data: Any, **arguments: Any) -> None:
        with self._log.open("a") as file:
            file.write(self._line)
        super().fit(*data, **arguments)
        time.sleep(0.5)
        if self._is_last():
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
    fits: list[dict] = []

    def build(units: int, dropout: float) -> Killed:
        return Killed((units, dropout), log, fits, kill)

    x, y = untrained.data()
    return grid_search(
        build, GRID, x, y, validation_data=untrained.data(), max_lr=0.1, storage=storage
    )


def main(url: str, log: str, workers: str, kill: str) -> None:
    folder = Path(log).parent
    (folder / f"ready-{os.getpid()}").touch()
    while len(list(folder.glob("ready-*"))) < int(workers):
        time.sleep(0.05)
    search(shared(url) if url.startswith("postgresql") else url, Path(log), int(kill))


if __name__ == "__main__":
    main(*sys.argv[1:])
