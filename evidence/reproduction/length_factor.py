"""How much longer one kind of training is than another for the same accuracy."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

HOW = (
    "Between the lengths above it is interpolated, on a logarithmic scale. Each number is the median over "
    "all combinations of seeds, with their 10th to 90th percentile; trainings that diverged are left out. "
    '"More than": the longest training ends lower; "or less": the shortest ends higher.'
)


def length_needed(lengths: Sequence[int], reached: Sequence[float], wanted: float) -> float:
    """Returns how long a training must be to reach an accuracy; infinity if none does.

    Args:
        lengths: Updates or epochs of the trainings, ascending.
        reached: Their accuracies.
        wanted: The accuracy.
    """
    for number, (length, accuracy) in enumerate(zip(lengths, reached, strict=True)):
        if accuracy < wanted:
            continue
        if number == 0:
            return float(length)
        before, low = lengths[number - 1], reached[number - 1]
        # Between two trainings, by the logarithm of their lengths.
        fraction = (wanted - low) / (accuracy - low)
        return float(before * (length / before) ** fraction)
    return float("inf")


def factor(wanted: Sequence[float], length: int, others: Mapping[int, Sequence[float]]) -> str:
    """Returns how many times a length other trainings need for an accuracy, with the spread of the seeds.

    The median, and the 10th and 90th percentile, of all combinations of one seed of each training.

    Args:
        wanted: The accuracies of the seeds.
        length: Updates or epochs after which they are reached.
        others: For each length of the others, ascending, the accuracies of the seeds.
    """
    others = {n: reached for n, reached in others.items() if len(reached)}
    lengths = list(others)
    if not lengths or lengths[-1] <= length:
        return ""  # Nothing longer was trained.
    factors = [
        length_needed(lengths, reached, accuracy) / length
        for accuracy, *reached in product(wanted, *others.values())
    ]
    if not factors:
        return ""

    def told(times: float) -> str:
        if times == float("inf"):
            return f"more than {lengths[-1] / length:.1f}"
        # The shortest training may have been more than enough.
        return f"{times:.1f} or less" if times == lengths[0] / length else f"{times:.1f}"

    low, high = np.quantile(factors, [0.1, 0.9], method="nearest")
    low, middle, high = map(told, (low, np.median(factors), high))
    return middle if low == high else f"{middle} ({low} to {high})"
