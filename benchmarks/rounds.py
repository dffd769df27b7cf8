"""Measurements in turns, their medians and quartiles, and the table and file that they end in."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

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


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def environment() -> dict[str, Any]:
    """Returns what the figures should be read with."""
    import keras

    backend = keras.backend.backend()
    return {
        "backend": backend,
        backend: __import__(backend).__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def write(path: Path | None, content: Any, markdown: str) -> None:
    """Prints the table; with a path, writes the figures there, and the table beside them."""
    print(markdown)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(markdown + "\n", encoding="utf-8")
