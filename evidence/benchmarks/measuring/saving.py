"""Where the numbers go: the measured ones to evidence/results/benchmarks, their table to a page in docs/."""

import argparse
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evidence.pages import ROOT, fill


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
        help="write the numbers to evidence/results/benchmarks and the table to its page in docs/",
    )


def results_file(script: str) -> Path:
    """Returns where the figures of a benchmark are kept."""
    return ROOT / "evidence" / "results" / "benchmarks" / f"{Path(script).stem}.json"


def places(script: str, tables: str | Mapping[str, str]) -> dict[str, str]:
    """Returns a benchmark's tables by the names of their places: `benchmarks/NAME`, or a part of it."""
    name = f"benchmarks/{Path(script).stem}"
    if isinstance(tables, str):
        return {name: tables}
    return {f"{name}/{part}": table for part, table in tables.items()}


def write(script: str, content: Any, tables: str | Mapping[str, str], *, save: bool) -> None:
    """Prints the tables; if `save`, writes the numbers and fills the places on the pages.

    Args:
        script: String, the path of the benchmark's file, which results and places are named after.
        content: The numbers: what JSON can hold.
        tables: String, the table in Markdown; of several, a dict by what tells them apart.
        save: Boolean.
    """
    of_places = places(script, tables)
    print("\n\n".join(of_places.values()))
    if save:
        path = results_file(script)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        fill(of_places)
