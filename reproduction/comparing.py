"""How much longer one kind of training is than another for the same accuracy."""

from collections.abc import Mapping, Sequence

import numpy as np

from drawing import spread


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


def factor(wanted: float, length: int, others: Mapping[int, Mapping[int, float]]) -> str:
    """Returns how many times a length other trainings need for an accuracy, with the spread of the seeds.

    Args:
        wanted: The accuracy.
        length: Updates or epochs after which it is reached.
        others: For each length of the others, ascending, the accuracy of each seed.
    """
    lengths = list(others)
    # A seed that one of the lengths lacks has no course to interpolate.
    seeds = sorted(set.intersection(*map(set, others.values()))) if others else []
    if not seeds or lengths[-1] <= length or np.isnan(wanted):
        return ""
    reached = [[others[n][seed] for n in lengths] for seed in seeds]
    needed = np.array([length_needed(lengths, one, wanted) for one in reached])
    factors = needed / length
    # The shortest training may have been more than enough.
    most = "at most " if (needed == lengths[0]).any() else ""
    if np.isfinite(factors).all():
        return f"{most}{spread(factors)}"
    if np.isfinite(factors).any():
        return ", ".join(f"{f:.1f}" if np.isfinite(f) else "never" for f in factors)
    number = f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"
    return f"more than {lengths[-1] / length:.1f} (not reached, {number})"
