"""Functions that suggest a learning rate, or a momentum, from the curve of a range test.

Each is a plain function of the learning rates and the losses, arrays of equal length. `edge` is the default
where there are no short cycles, whose rule stands in `range_tests/_short_cycles_rule.py`; `valley` and
`minimum` are those of fastai; `stable`, for momenta, is the papers' rule. Pass your own as
`result.suggest(my_function)`.
"""

from collections.abc import Callable

import numpy as np

__all__ = ["SuggestionMethod", "edge", "minimum", "stable", "valley"]

SuggestionMethod = Callable[[np.ndarray, np.ndarray], float]

# A rise of the loss by less, relative to the range of the curve, is that of one batch after another.
_RISE = 0.1


def edge(lr: np.ndarray, loss: np.ndarray) -> float:
    """Suggests a quarter of the learning rate at which the loss turns up.

    It has turned up where it is above its lowest by more than a tenth of its descent. Where it does not, the
    suggestion is a quarter of the last rate. `RangeTestResult.suggest` gives it losses smoothed in both
    directions, which do not lag behind as a moving average does.

    Example:

    >>> lr = np.logspace(-4, 0, 60)
    >>> loss = 2 + (np.log10(lr) + 1) ** 2
    >>> round(keras_onecycle.suggestion.edge(lr, loss), 4)
    0.2139

    Args:
        lr: Float array of shape `(points,)`, ascending.
        loss: Float array of shape `(points,)`.

    Returns:
        A float.
    """
    lowest = int(np.argmin(loss))
    limit = loss[lowest] + (loss[: lowest + 1].max() - loss[lowest]) / 10
    (above,) = np.nonzero(loss[lowest:] > limit)
    return float(lr[lowest + above[0] - 1 if len(above) else -1]) / 4


def valley(lr: np.ndarray, loss: np.ndarray) -> float:
    """Suggests the learning rate half way (rounded as in fastai) down the longest valley.

    The valley is the longest strictly decreasing subsequence of the losses.

    Example:

    >>> lr = np.logspace(-4, 0, 60)
    >>> loss = 2 + (np.log10(lr) + 1) ** 2
    >>> round(keras_onecycle.suggestion.valley(lr, loss), 4)
    0.0027

    Arguments and return value are those of `edge`.
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


def minimum(lr: np.ndarray, loss: np.ndarray) -> float:
    """Suggests a tenth of the learning rate at which the loss is lowest.

    Example:

    >>> lr = np.array([0.01, 0.1, 1.0, 10.0])
    >>> keras_onecycle.suggestion.minimum(lr, np.array([3.0, 2.0, 1.0, 5.0]))
    0.1

    Arguments and return value are those of `edge`.
    """
    return float(lr[np.argmin(loss)]) / 10


def stable(momentum: np.ndarray, loss: np.ndarray) -> float:
    """Suggests the largest momentum before the loss turns up.

    If momentum rose in the test, this is where the loss is lowest (the last momentum, if the loss fell to the
    end). If momentum fell, it is where the largest rise of the loss ends, or the first momentum if no rise is
    more than a tenth of the range of the losses.

    Example:

    >>> momentum = np.array([0.7, 0.8, 0.9, 0.95, 0.99])
    >>> keras_onecycle.suggestion.stable(momentum, np.array([3.0, 2.0, 1.0, 1.5, 9.0]))
    0.9
    >>> keras_onecycle.suggestion.stable(momentum[::-1], np.array([3.0, 4.0, 2.0, 1.0, 0.5]))
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
    return float(momentum[end_of_rise(loss)])


def end_of_rise(loss: np.ndarray) -> int:
    """Returns the point at which the largest rise of the loss is over, or 0 where it never rose."""
    rise = loss - np.minimum.accumulate(loss)
    top = int(np.argmax(rise))
    return top if rise[top] > _RISE * np.ptp(loss) else 0
