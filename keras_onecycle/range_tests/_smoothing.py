"""The curve that is drawn and read: losses smoothed with those before and after."""

import numpy as np

# The deviation of the Gaussian, in points.
_WIDTH = 3.0


def smooth_both_ways(loss: np.ndarray) -> np.ndarray:
    """Returns the losses smoothed with those before and after; what is not finite does not count.

    A rise counts up to twice the height of the descent before the lowest loss: otherwise a divergence by
    many orders of magnitude would hide the descent.
    """
    index = np.arange(len(loss))
    weights = np.exp(-0.5 * ((index[:, None] - index) / _WIDTH) ** 2)
    finite = np.isfinite(loss)
    if finite.any():
        lowest = np.argmin(np.where(finite, loss, np.inf))
        highest = loss[: lowest + 1][finite[: lowest + 1]].max()
        if highest > loss[lowest]:
            loss = np.minimum(loss, 2 * highest - loss[lowest])
    with np.errstate(invalid="ignore"):
        return weights @ np.where(finite, loss, 0.0) / (weights @ finite)
