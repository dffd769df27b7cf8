"""A range-test curve becomes a learning rate.

Each method is a plain function of the learning rates and the losses, arrays of equal length. They give
what fastai's functions of the same names give. Put your own beside them: `result.suggest(my_function)`.
"""

from collections.abc import Callable

import numpy as np

SuggestionMethod = Callable[[np.ndarray, np.ndarray], float]

# A curve that varies by less, relative to itself, is float32 noise.
_FLAT = 1e-6


def valley(lr: np.ndarray, loss: np.ndarray) -> float:
    """Suggests the learning rate half way (rounded as in fastai) down the longest valley.

    The valley is the longest strictly decreasing subsequence of the losses.

    Example:

    >>> lr = np.logspace(-4, 0, 60)
    >>> loss = 2 + (np.log10(lr) + 1) ** 2
    >>> round(keras_onecycle.suggestion.valley(lr, loss), 4)
    0.0027

    Args:
        lr: Float array of shape `(points,)`, ascending.
        loss: Float array of shape `(points,)`.

    Returns:
        A float, one of `lr`.
    """
    length = np.ones(len(loss), dtype=int)
    start = end = 0
    for i in range(1, len(loss)):
        # The longest valley that ends at i goes on from one that ends above it.
        length[i] = np.where(loss[:i] > loss[i], length[:i] + 1, 1).max()
        if length[i] > length[end]:
            start, end = i - int(length[i]), i
    third = (end - start) / 3
    return float(lr[start + int(third) + int(third / 2)])


def slide(lr: np.ndarray, loss: np.ndarray) -> float:
    """Suggests where the slopes at both ends of a window first agree, sliding down from the right.

    Example:

    >>> lr = np.logspace(-4, 0, 60)
    >>> loss = 2 + (np.log10(lr) + 1) ** 2
    >>> round(keras_onecycle.suggestion.slide(lr, loss), 4)
    0.0001

    Args:
        lr: Float array of shape `(points,)`, ascending.
        loss: Float array of shape `(points,)`.

    Returns:
        A float, one of `lr`.

    Raises:
        ValueError: If there are fewer than 16 points, one more than the window is wide.
    """
    window, threshold = 15, 0.005
    if len(loss) <= window:
        raise ValueError(
            f"`slide` needs at least {window + 1} points. Received: {len(loss)} points"
        )
    slope = np.gradient(loss)
    right = len(loss) - 1
    suggested = right - window
    left = suggested
    while left >= 0 and abs(slope[right] - slope[left]) > threshold:
        suggested = left
        right, left = right - 1, left - 1
    return float(lr[suggested])


def minimum(lr: np.ndarray, loss: np.ndarray) -> float:
    """Suggests a tenth of the learning rate at which the loss is lowest.

    Example:

    >>> lr = np.array([0.01, 0.1, 1.0, 10.0])
    >>> keras_onecycle.suggestion.minimum(lr, np.array([3.0, 2.0, 1.0, 5.0]))
    0.1

    Args:
        lr: Float array of shape `(points,)`, ascending.
        loss: Float array of shape `(points,)`.

    Returns:
        A float, a tenth of one of `lr`.
    """
    return float(lr[np.argmin(loss)]) / 10


def steep(lr: np.ndarray, loss: np.ndarray) -> float:
    """Suggests the learning rate at which the loss falls fastest, by the log of the learning rate.

    Example:

    >>> lr = np.array([0.01, 0.1, 1.0, 10.0])
    >>> keras_onecycle.suggestion.steep(lr, np.array([3.0, 2.9, 1.0, 5.0]))
    0.1

    Args:
        lr: Float array of shape `(points,)`, ascending, above 0.
        loss: Float array of shape `(points,)`.

    Returns:
        A float, one of `lr`.
    """
    return float(lr[np.argmin(np.diff(loss) / np.diff(np.log(lr)))])


METHODS: dict[str, SuggestionMethod] = {
    "valley": valley,
    "steep": steep,
    "minimum": minimum,
    "slide": slide,
}


def check_curve(lr: np.ndarray, loss: np.ndarray) -> None:
    """Raises a `ValueError` where no learning rate can be read off the curve."""
    if len(lr) < 5:
        raise ValueError(
            "A suggestion needs at least 5 finite points, after the first tenth and the last 5 of the "
            f"test are left out. Received: {len(lr)} points. Run the test with more `num_steps`; if it "
            "diverged at once, with a lower `min_lr` or `max_lr`."
        )
    if np.ptp(loss) <= _FLAT * np.abs(loss).max():
        raise ValueError(
            "The loss is flat over the whole test, so no learning rate stands out. Run it up to a "
            f"higher `max_lr`. Received: losses from {loss.min():g} to {loss.max():g}"
        )
    if loss.min() >= loss[0]:
        raise ValueError(
            "The loss never falls below where it starts, so no learning rate trains. Run the test "
            f"from a lower `min_lr`. Received: losses from {loss[0]:g} at lr={lr[0]:g}"
        )
