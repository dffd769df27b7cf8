"""Which learning rates short cycles are tried at, and what their losses suggest. No Keras in here."""

import numpy as np

from keras_onecycle.range_tests._curve_checks import noise_of

# From one short cycle to the next.
FACTOR = 3.0
# So many above the best must be worse before lower ones are tried: one may be bad luck.
_WORSE = 2
# How far the suggestion stays below the best: what is best in a short cycle is too high in a long one, all
# the more at the brink, where the next rate loses half of what the best gains. See
# docs/benchmarks/suggestion.md.
_BELOW, _BELOW_AT_BRINK = 2.0, 3.0


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
        """Returns the rate to try next, or `None` where those around the best are worse."""
        if not self.lr:
            return self._first
        lr, loss = _by_rate(self.lr, self.loss)
        best = int(np.argmin(loss))
        if len(lr) - 1 - best < _WORSE and np.isfinite(loss[-1]):
            return float(lr[-1]) * FACTOR
        return float(lr[0]) / FACTOR if best == 0 else None


def below_best(lr: np.ndarray, loss: np.ndarray, start: float, noise: float) -> float:
    """Suggests half of the best rate, or a third of it at the brink.

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
    if not loss.min() < start - noise:
        raise ValueError(
            f"No short cycle, at learning rates from {lr[0]:.3g} to {lr[-1]:.3g}, brings the loss below "
            f"{start:.3g}, where it starts, by what single losses vary by ({noise:.3g}), so no learning rate "
            "stands out. Call `lr_find` with longer cycles, such as `cycle_steps=400`, and if need be "
            "with larger batches."
        )
    best = int(np.argmin(loss))
    # Where nothing higher was tried, nothing is known of it.
    at_brink = best == len(lr) - 1 or not loss[best + 1] < (loss[best] + start) / 2
    return float(lr[best]) / (_BELOW_AT_BRINK if at_brink else _BELOW)


def start_and_noise(loss: np.ndarray) -> tuple[float, float]:
    """Returns the loss before any training, and its noise, of the losses of a range test."""
    loss = loss[np.isfinite(loss)]
    return float(np.mean(loss[: max(2, len(loss) // 10)])), noise_of(loss)


def _by_rate(
    lr: "np.ndarray | list[float]", loss: "np.ndarray | list[float]"
) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(lr)
    return np.array(lr)[order], np.array(loss)[order]
