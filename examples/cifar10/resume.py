"""How a training resumes: settings to compare, a backup after each epoch, and a log with its row.

A backup is one file, named after the number of epochs that it holds. It gets that name when it is
complete, so a kill at any moment, also while the file is written, loses at most one epoch. The cycle
needs no file of its own: it follows `optimizer.iterations`, which is in the backup.
"""

import csv
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from examples.cifar10.settings import Settings, read_json

_SUFFIX = ".weights.h5"


def claim(out: Path, *, resume: bool) -> None:
    """Exits if the folder holds something that is not to be gone on with."""
    if not out.exists() or not any(out.iterdir()):
        return
    path = out / "settings.json"
    if not path.exists() or not {"policy", "depth", "max_lr"} <= read_json(path).keys():
        sys.exit(f"There is something other than a training in {out}. Give another --out.")
    if not resume:
        sys.exit(
            f"There is a training in {out} already. Give --resume to go on with it, or another --out."
        )


def check_settings(settings: Settings, folder: Path) -> None:
    """Raises a `ValueError` if the folder belongs to a training with other settings."""
    path = folder / "settings.json"
    if not path.exists():
        return
    wanted, found = asdict(settings), read_json(path)
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        there = ", ".join(f"{name}={found.get(name)!r}" for name in differing)
        asked = ", ".join(f"{name}={wanted[name]!r}" for name in differing)
        raise ValueError(
            f"The training in {folder} has other settings: {there}. Go on with those, or take another "
            f"folder. Received: {asked}"
        )


def save_weights(model: keras.Model, path: Path, process_id: int = 0) -> None:
    """Saves weights and optimizer to a file that is complete or not there.

    Args:
        model: A `keras.Model`.
        path: Path that ends in `.weights.h5`.
        process_id: Integer, the number of this process. With several, each must call this, since
            Keras's saving waits for all; the file of process 0 is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{process_id}{_SUFFIX}")
    model.save_weights(partial, overwrite=True)
    if process_id == 0:
        partial.replace(path)
    else:
        partial.unlink()


class Backup(keras.callbacks.Callback):
    """Saves the weights and the optimizer's state at the end of an epoch.

    Not Keras's `BackupAndRestore`: that writes weights and epoch to two files in place, and all processes
    write the same ones. Killed between the two it trains an epoch twice and says nothing.

    Args:
        folder: Path of a folder for the backups alone, which all processes see.
        process_id: Integer, the number of this process. Defaults to `0`.
        freq: Integer, epochs from one backup to the next. Defaults to `1`.
    """

    def __init__(self, folder: Path, process_id: int = 0, freq: int = 1) -> None:
        super().__init__()
        self.folder = folder
        self.process_id = process_id
        self.freq = freq

    @property
    def epochs(self) -> int:
        """The number of epochs in the newest backup, 0 without one."""
        found = self.folder.glob(f"[0-9]*{_SUFFIX}")
        return max((int(path.name.removesuffix(_SUFFIX)) for path in found), default=0)

    def restore(self, model: keras.Model) -> int:
        """Loads the newest backup into a model whose optimizer is built, and returns its epochs."""
        if epochs := self.epochs:
            model.load_weights(self._path(epochs))
        return epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self.freq:
            return
        save_weights(self.model, self._path(epoch + 1), self.process_id)
        if self.process_id == 0:
            self._path(epoch + 1 - self.freq).unlink(missing_ok=True)

    def _path(self, epochs: int) -> Path:
        return self.folder / f"{epochs}{_SUFFIX}"


class Log(keras.callbacks.CSVLogger):
    """Appends a row for each epoch, with its seconds, and the same columns if it is not evaluated."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), append=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = {"val_accuracy": "NA", "val_loss": "NA", **(logs or {})}
        row["seconds"] = time.perf_counter() - self._began
        super().on_epoch_end(epoch, row)


def read_log(path: Path) -> list[dict[str, float]]:
    """Returns a row for each epoch.

    An epoch whose backup was not complete when the training was killed is trained again and has two
    rows in the file. The later one counts. JSON has no NaN, so what diverged is left out.
    """
    rows: dict[int, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            numbers = {key: float(value) for key, value in row.items() if value not in ("", "NA")}
            rows[int(row["epoch"])] = {k: v for k, v in numbers.items() if math.isfinite(v)}
    return [rows[epoch] for epoch in sorted(rows)]
