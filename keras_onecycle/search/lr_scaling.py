"""The learning rate that goes with another batch size."""

import math

from keras_onecycle._arguments import check_choice, check_int, check_learning_rate

RULES = ("linear", "sqrt")


def scale_lr(max_lr: float, old: int, new: int, rule: str = "linear") -> float:
    """Returns the learning rate for batches of `new` samples that was `max_lr` for batches of `old`.

    A rule of thumb that saves a range test, or says where to begin one: it was seen to hold while
    batches are small beside the data, and to break down for large ones.

    Example:

    >>> keras_onecycle.search.scale_lr(0.1, old=256, new=1024)
    0.4
    >>> keras_onecycle.search.scale_lr(0.001, old=256, new=1024, rule="sqrt")
    0.002

    Args:
        max_lr: Float above 0, the learning rate for the old batch size.
        old: Integer, at least 1: the old batch size, in samples.
        new: Integer, at least 1: the new batch size, in samples.
        rule: `"linear"`, which multiplies by `new / old`, or `"sqrt"`, which multiplies by its square
            root and so keeps the variance of an update. Defaults to `"linear"`.

    Returns:
        A float, for `OneCycle(max_lr=...)`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range, or the result is beyond float32.

    References:

    - [Goyal et al., 2017](https://arxiv.org/abs/1706.02677): linear
    - [Krizhevsky, 2014](https://arxiv.org/abs/1404.5997): the square root
    """
    check_learning_rate("max_lr", max_lr)
    ratio = check_int("new", new) / check_int("old", old)
    check_choice("rule", rule, RULES)
    scaled = float(max_lr) * (ratio if rule == "linear" else math.sqrt(ratio))
    return check_learning_rate("the scaled learning rate", scaled)
