"""The benchmarks can be imported, one of them runs, and the published tables are of the published figures."""

import argparse
import importlib
import json
from pathlib import Path

import pytest

import run_all
import train_step

ROOT = Path(train_step.__file__).parent.parent
RESULTS, DOCS = ROOT / "results" / "benchmarks", ROOT / "docs" / "benchmarks"

pytestmark = pytest.mark.any_backend


def test_one_runs_at_its_smallest() -> None:
    arguments = argparse.Namespace(
        small=True, rounds=2, depths=[20], batch_size=128, steps=4, backends=["tensorflow"]
    )
    measured = train_step.measure(arguments)
    lines = train_step.markdown({"tensorflow": measured}).splitlines()
    assert len(lines) == 2 + 2
    for line in lines[2:]:
        assert line.startswith("| 8 | tensorflow | ")
    assert all(rate > 0 for row in measured["rows"] for rate in row["images_per_second"])


@pytest.mark.parametrize("name", [*run_all.BENCHMARKS, "stop_rule"])
def test_tables_are_made_of_the_figures_that_are_kept(name: str) -> None:
    module = importlib.import_module(name)
    figures = json.loads((RESULTS / f"{name}.json").read_text())
    page = (DOCS / f"{name}.md").read_text()
    make = getattr(module, "markdown", None) or getattr(module, "table", None)
    if name == "beside_pytorch":
        made = module.tables(figures["measured"])
    elif name == "input_pipeline":
        made = module.markdown(figures["results"], figures["environment"]["cores"])
    elif name == "suggestion_quality":
        pytest.skip("it is made of a store")
    else:
        made = make(figures)
    assert made in page
