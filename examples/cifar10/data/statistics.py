"""What is known of each data set before it is read."""

from dataclasses import dataclass

import numpy as np

IMAGE_SHAPE = (32, 32, 3)


@dataclass(frozen=True)
class Statistics:
    """A data set's classes, sizes, and the mean and deviation of its training pixels in [0, 1]."""

    num_classes: int
    num_train: int
    num_test: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scale and shift of each channel that standardise pixels from 0 to 255."""
        mean, std = np.array(self.mean), np.array(self.std)
        return (1 / (255 * std)).astype("float32"), (-mean / std).astype("float32")


STATISTICS = {
    "cifar10": Statistics(10, 50_000, 10_000, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Statistics(100, 50_000, 10_000, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
