"""Measuring in turns, medians and quartiles, and the table and the files with the results."""

import argparse
import ast
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

ROOT = Path(__file__).resolve().parents[3]

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


def add_save(parser: argparse.ArgumentParser) -> None:
    """Adds the option that `write` is told by."""
    parser.add_argument(
        "--save",
        action="store_true",
        help="write the figures to evidence/results/benchmarks and the table to docs/benchmarks",
    )


def results_file(script: str) -> Path:
    """Returns where the figures of a benchmark are kept."""
    return ROOT / "evidence" / "results" / "benchmarks" / f"{Path(script).stem}.json"


def page(script: str, markdown: str) -> str:
    """Returns the page of a benchmark: its name, what its docstring says first, and the table."""
    name = Path(script).stem
    doc = ast.get_docstring(ast.parse(Path(script).read_text(encoding="utf-8"))) or ""
    title = f"{name[0].upper()}{name[1:]}".replace("_", " ").replace("pytorch", "PyTorch")
    told = (
        f"{doc.splitlines()[0]} This page comes from `python -m evidence.benchmarks.{name} --save`."
    )
    written = f"<!-- Written by `python -m evidence.benchmarks.{name} --save`. -->"
    return f"{written}\n\n# {title}\n\n{told}\n\n{markdown}\n"


def write(script: str, content: Any, markdown: str, *, save: bool) -> None:
    """Prints the table; if `save`, writes it to `docs/` and the figures to `evidence/results/`.

    Args:
        script: String, the path of the benchmark's file, which the files are named after.
        content: The figures: what JSON can hold.
        markdown: String, the table.
        save: Boolean.
    """
    print(markdown)
    if save:
        path = results_file(script)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        pages = ROOT / "docs" / "benchmarks"
        (pages / f"{path.stem}.md").write_text(page(script, markdown), encoding="utf-8")
