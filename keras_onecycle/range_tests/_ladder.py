"""Which learning rates short cycles are tried at, and what their losses suggest. No Keras in here."""

import numpy as np

from keras_onecycle.range_tests._curve_checks import noise_of

# From one short cycle to the next, and how far the suggestion stays below the best: what is best in a
# short cycle is at the brink in a long one. See docs/benchmarks/suggestion.md.
FACTOR = 3.0
# Of what the best short cycle gains, so much may be lost by staying below it.
_TOLERANCE = 0.05
# A mean over a few batches has changed if it did by this part of what single losses vary by.
_CHANGE = 0.5


class Ladder:
    """The learning rates of short cycles, each chosen by the losses that those before it ended with.

    Args:
        first: Float, the first rate.
    """

    def __init__(self, first: float) -> None:
        self.lr: list[float] = []
        self.loss: list[float] = []
        self._first = first

    def add(self, lr: float, loss: float) -> None:
        """Takes the loss that a short cycle ended with, infinite where it diverged."""
        self.lr.append(lr)
        self.loss.append(loss)

    def next(self) -> float | None:
        """Returns the rate to try next, or `None` where the best is between two that are worse."""
        if not self.lr:
            return self._first
        lr, loss = _by_rate(self.lr, self.loss)
        best = int(np.argmin(loss))
        if best == len(lr) - 1 and np.isfinite(loss[best]):
            return float(lr[-1]) * FACTOR
        return float(lr[0]) / FACTOR if best == 0 else None


def below_best(lr: np.ndarray, loss: np.ndarray, start: float, noise: float) -> float:
    """Suggests a third of the best rate, or more where that loses a twentieth of what the best gains.

    Args:
        lr: Float array of shape `(cycles,)`, the highest rates of the short cycles.
        loss: Float array of shape `(cycles,)`, the losses that they ended with.
        start: Float, the loss before any training.
        noise: Float, the standard deviation of the loss from one batch to the next.

    Returns:
        A float.

    Raises:
        ValueError: If nothing is learnt at any rate.
    """
    lr, loss = _by_rate(lr, loss)
    if not loss.min() < start - _CHANGE * noise:
        raise ValueError(
            f"No short cycle, at learning rates from {lr[0]:.3g} to {lr[-1]:.3g}, brings the loss below "
            f"{start:.3g}, where it starts, by half of what single losses vary by ({noise:.3g}), so no "
            "learning rate stands out. Call `lr_find` with longer cycles, such as `cycle_steps=200`, or "
            "with larger batches."
        )
    best = int(np.argmin(loss))
    limit = loss[best] + _TOLERANCE * (start - loss[best])
    (worse,) = np.nonzero(loss[:best] > limit)
    third = lr[best] / FACTOR
    if not len(worse) or not np.isfinite(loss[worse[-1]]):
        return float(third)
    # Where the loss crosses the limit, from the last rate that is worse to the next.
    low, high = worse[-1], worse[-1] + 1
    part = (loss[low] - limit) / (loss[low] - loss[high])
    return float(max(third, lr[low] * (lr[high] / lr[low]) ** part))


def start_and_noise(loss: np.ndarray) -> tuple[float, float]:
    """Returns the loss before any training, and its noise, of the losses of a range test."""
    loss = loss[np.isfinite(loss)]
    return float(np.mean(loss[: max(2, len(loss) // 10)])), noise_of(loss)


def _by_rate(
    lr: "np.ndarray | list[float]", loss: "np.ndarray | list[float]"
) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(lr)
    return np.array(lr)[order], np.array(loss)[order]
