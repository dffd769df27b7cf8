"""Training that may be killed at any moment, and goes on where it was.

Keras's `BackupAndRestore` overwrites its two files in place: a kill in between leaves weights of one
epoch beside the number of another. Here a backup is one file, whose name has the number of the epoch,
and which gets that name when it is whole.
"""

import csv
import math
import re
from pathlib import Path
from typing import Any

import keras

_NAME = re.compile(r"epoch-(\d+)\.weights\.h5")


class Backup(keras.callbacks.Callback):
    """Saves the weights and the optimizer's state at the end of each epoch, whole or not at all.

    Args:
        folder: Path of a folder for the backups alone, which all processes see.
        process_id: Integer, the number of this process. All must save, since Keras's saving waits
            for every process; the file of process 0 is kept. Defaults to `0`.
    """

    def __init__(self, folder: Path, process_id: int = 0) -> None:
        super().__init__()
        self.folder = folder
        self.process_id = process_id

    def backups(self) -> dict[int, Path]:
        """Returns the backups that there are, by the number of epochs that were trained."""
        matches = ((_NAME.fullmatch(path.name), path) for path in self.folder.glob("epoch-*"))
        return {int(match[1]): path for match, path in sorted(matches, key=str) if match}

    def restore(self, model: keras.Model) -> int:
        """Loads the newest backup into a model whose optimizer is built; returns its epochs, or 0.

        Raises:
            ValueError: If the file cannot be read.
        """
        backups = self.backups()
        if not backups:
            return 0
        epoch = max(backups)
        try:
            model.load_weights(backups[epoch])
        except OSError as error:
            raise ValueError(
                f"The backup {backups[epoch]} cannot be read. Delete it to begin anew. ({error})"
            ) from error
        return epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        older = self.backups().values()
        self.save_whole(self.model, self.folder / f"epoch-{epoch + 1:04d}.weights.h5")
        if self.process_id == 0:
            for path in older:
                path.unlink()

    def save_whole(self, model: keras.Model, path: Path) -> None:
        """Saves the weights to a file that gets its name when it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"partial-{self.process_id}.weights.h5")
        model.save_weights(partial, overwrite=True)
        if self.process_id == 0:
            partial.replace(path)
        else:
            partial.unlink()


class Log(keras.callbacks.CSVLogger):
    """`CSVLogger` with the same columns whether or not the first epoch is evaluated."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, {"val_accuracy": "NA", "val_loss": "NA", **(logs or {})})


def read_log(path: Path) -> list[dict[str, float]]:
    """Returns the rows that `CSVLogger` wrote, a row an epoch, without one that is torn."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    whole = [row for row in rows if None not in row and None not in row.values()]
    numbers = [{k: float(v) for k, v in row.items() if v not in ("", "NA")} for row in whole]
    # JSON has no NaN: what a diverged training has none of is left out.
    return [{k: v for k, v in row.items() if math.isfinite(v)} for row in numbers]


def trim_log(path: Path, epochs: int) -> None:
    """Drops the rows that were written after the backup of so many epochs."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        lines = file.read().splitlines()
    partial = path.with_name(path.name + ".partial")
    # The header and a row an epoch: the row of an epoch is written before its backup.
    kept = lines[: epochs + 1] if epochs else []
    partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    partial.replace(path)
