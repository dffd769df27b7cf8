"""What makes trainings of the CIFAR-10 example quick: few images, a small network, an interruption."""

from pathlib import Path

import keras
import numpy as np
import pytest

from examples.cifar10 import resume


def images(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images whose class is their colour, with noise, and the labels, balanced."""
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % 10
    colours = np.random.default_rng(0).integers(40, 216, (10, 1, 1, 3))
    noisy = colours[labels] + rng.normal(0, 25, (number, 32, 32, 3))
    return np.clip(noisy, 0, 255).astype("uint8"), labels.astype("uint8")


def write(folder: Path, num_train: int = 160, num_test: int = 50) -> Path:
    """Writes one part and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    x_train, y_train = images(num_train, 1)
    x_test, y_test = images(num_test, 2)
    np.savez(
        folder / "cifar10-0.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test
    )
    return folder


def network(depth: int, classes: int = 10, **arguments: object) -> keras.Model:
    """Returns what a test puts in the place of `resnet`."""
    pool, dense = keras.layers.AveragePooling2D(8), keras.layers.Dense(classes)
    return keras.Sequential([keras.Input((32, 32, 3)), pool, keras.layers.Flatten(), dense])


def interrupt_at(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """Makes `KeyboardInterrupt` come after the row of an epoch and before its backup."""
    on_epoch_end = resume.Backup.on_epoch_end

    def interrupt(self: resume.Backup, number: int, logs: object = None) -> None:
        if number == epoch:
            raise KeyboardInterrupt
        on_epoch_end(self, number, logs)

    patch.setattr(resume.Backup, "on_epoch_end", interrupt)
