"""A range-test curve becomes a learning rate, or a momentum.

Each method is a plain function of the learning rates and the losses, arrays of equal length. `valley`,
`steep`, `minimum` and `slide` give what fastai's functions of the same names give; `between` lies
between two of them; `stable`, for momenta, is the papers' rule. Put your own beside them:
`result.suggest(my_function)`.
"""

import math
import warnings
from collections.abc import Callable

import numpy as np

SuggestionMethod = Callable[[np.ndarray, np.ndarray], float]

# A curve that varies by less, relative to itself, is float32 noise.
_FLAT = 1e-6

# A rise of the loss by less, relative to the range of the curve, is that of one batch after another.
_RISE = 0.1

_LEAST_POINTS = 5

# Of the absolute difference of two normal values with a standard deviation of 1.
_MEDIAN_OF_DIFFERENCES = 0.954


def between(lr: np.ndarray, loss: np.ndarray) -> float:
    """Suggests half way, by the log of the learning rate, between `valley` and `minimum`.

    Where `valley` goes wrong it is mostly too small, and `minimum` too large.

    Example:

    >>> lr = np.logspace(-4, 0, 60)
    >>> loss = 2 + (np.log10(lr) + 1) ** 2
    >>> round(keras_onecycle.range_tests.suggestion.between(lr, loss), 4)
    0.0051

    Args:
        lr: Float array of shape `(points,)`, ascending.
        loss: Float array of shape `(points,)`.

    Returns:
        A float.
    """
    return math.sqrt(valley(lr, loss) * minimum(lr, loss))


def valley(lr: np.ndarray, loss: np.ndarray) -> float:
    """Suggests the learning rate half way (rounded as in fastai) down the longest valley.

    The valley is the longest strictly decreasing subsequence of the losses.

    Example:

    >>> lr = np.logspace(-4, 0, 60)
    >>> loss = 2 + (np.log10(lr) + 1) ** 2
    >>> round(keras_onecycle.range_tests.suggestion.valley(lr, loss), 4)
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
    >>> round(keras_onecycle.range_tests.suggestion.slide(lr, loss), 4)
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
    >>> keras_onecycle.range_tests.suggestion.minimum(lr, np.array([3.0, 2.0, 1.0, 5.0]))
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
    >>> keras_onecycle.range_tests.suggestion.steep(lr, np.array([3.0, 2.9, 1.0, 5.0]))
    0.1

    Args:
        lr: Float array of shape `(points,)`, ascending, above 0.
        loss: Float array of shape `(points,)`.

    Returns:
        A float, one of `lr`.
    """
    return float(lr[np.argmin(np.diff(loss) / np.diff(np.log(lr)))])


def stable(momentum: np.ndarray, loss: np.ndarray) -> float:
    """Suggests the largest momentum before the loss turns up.

    Of a test in which momentum rises that is where the loss is lowest: the last one tested, if the
    loss fell to the end. Of one in which it falls, it is where the largest rise of the loss is over:
    the first one tested, if the loss never rose by more than a tenth of all that it changed.

    Example:

    >>> momentum = np.array([0.7, 0.8, 0.9, 0.95, 0.99])
    >>> keras_onecycle.range_tests.suggestion.stable(momentum, np.array([3.0, 2.0, 1.0, 1.5, 9.0]))
    0.9
    >>> keras_onecycle.range_tests.suggestion.stable(momentum[::-1], np.array([3.0, 4.0, 2.0, 1.0, 0.5]))
    0.95

    Args:
        momentum: Float array of shape `(points,)`, ascending or descending.
        loss: Float array of shape `(points,)`.

    Returns:
        A float, one of `momentum`.

    References:

    - [Smith, 2018, section 4.3](https://arxiv.org/abs/1803.09820)
    """
    if momentum[0] < momentum[-1]:
        return float(momentum[np.argmin(loss)])
    return float(momentum[_end_of_rise(loss)])


# The first is the default: see benchmarks/suggestion_quality.py.
METHODS: dict[str, SuggestionMethod] = {
    "between": between,
    "valley": valley,
    "steep": steep,
    "minimum": minimum,
    "slide": slide,
}

MOMENTUM_METHODS: dict[str, SuggestionMethod] = {"stable": stable}


def check_curve(lr: np.ndarray, loss: np.ndarray) -> None:
    """Raises a `ValueError` where no learning rate can be read off the curve."""
    if len(lr) < _LEAST_POINTS:
        raise ValueError(
            "A suggestion needs at least 5 finite points, after the first tenth and the last 5 of the "
            f"test are left out. Received: {len(lr)} points. Run the test with more `num_steps`; if it "
            "diverged at once, with a lower `min_lr` or `max_lr`."
        )
    if _is_flat(loss):
        raise ValueError(
            "The loss is flat over the whole test, so no learning rate stands out. Run it up to a "
            f"higher `max_lr`. Received: losses from {loss.min():g} to {loss.max():g}"
        )
    if loss.min() >= loss[0]:
        raise ValueError(
            "The loss never falls below where it starts, so no learning rate trains. Run the test "
            f"from a lower `min_lr`. Received: losses from {loss[0]:g} at lr={lr[0]:g}"
        )


def warn_of_noise(loss: np.ndarray, smoothed_loss: np.ndarray) -> None:
    """Warns where the curve falls by less than single losses vary from one update to the next."""
    fall = smoothed_loss[0] - smoothed_loss.min()
    # Of neighbours, whose difference neither a trend nor the divergence at the end does much to: for
    # normal noise, its standard deviation.
    noise = np.median(np.abs(np.diff(loss))) / _MEDIAN_OF_DIFFERENCES
    if fall < noise:
        warnings.warn(
            f"The smoothed loss falls by {fall:.3g} at the most, and single losses vary by {noise:.3g} from "
            "one update to the next: the suggested learning rate may be noise. Look at the plot; run the "
            "test up to a higher `max_lr` or with larger batches.",
            stacklevel=3,
        )


def check_momentum_curve(momentum: np.ndarray, loss: np.ndarray) -> None:
    """Raises a `ValueError` where no momentum can be read off the curve."""
    if len(momentum) < _LEAST_POINTS:
        raise ValueError(
            f"A suggestion needs at least 5 finite points. Received: {len(momentum)} points. Run the "
            "test with more `num_steps`; if it diverged at once, with a lower `learning_rate`."
        )
    if _is_flat(loss):
        raise ValueError(
            "The loss is flat over the whole test, so no momentum stands out. Run it with a higher "
            f"`learning_rate`. Received: losses from {loss.min():g} to {loss.max():g}"
        )
    if loss.min() >= loss[0]:
        raise ValueError(
            "The loss never falls below where it starts, so no momentum trains. Run the test with a "
            f"lower `learning_rate`. Received: losses from {loss[0]:g} at momentum={momentum[0]:g}"
        )
    if momentum[0] > momentum[-1] and _end_of_rise(loss) == len(loss) - 1:
        raise ValueError(
            "The loss still rises where the test ends, so no momentum was small enough. Run the test "
            "to a smaller `end_momentum` or with a lower `learning_rate`. Received: losses up to "
            f"{loss[-1]:g} at momentum={momentum[-1]:g}"
        )


def _end_of_rise(loss: np.ndarray) -> int:
    rise = loss - np.minimum.accumulate(loss)
    top = int(np.argmax(rise))
    return top if rise[top] > _RISE * np.ptp(loss) else 0


def _is_flat(loss: np.ndarray) -> bool:
    return np.ptp(loss) <= _FLAT * np.abs(loss).max()
