"""A data set in CIFAR-10's shape that is small and can be learned: `.npz` parts."""

from pathlib import Path

import numpy as np


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
