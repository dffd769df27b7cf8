"""Measuring in turns, with the ratios of each round, medians and quartiles."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

Measured = TypeVar("Measured")


def in_turns(
    contestants: Mapping[str, Callable[[], Measured]], rounds: int
) -> dict[str, list[Measured]]:
    """Runs each contestant once a round, the order turned by one each round, and returns what each said.

    So a change of the machine's speed meets all of them, and none is always first.
    """
    measured: dict[str, list[Measured]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            measured[name].append(contestants[name]())
    return measured


def ratios(values: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Returns the ratio of each round."""
    return [value / other for value, other in zip(values, reference, strict=True)]


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """Returns the median and the quartiles: what others do on the machine is in the extremes."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{median:{form}} ({low:{form}} to {high:{form}})"
