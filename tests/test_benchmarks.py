"""The benchmarks can be imported, one of them runs, and the published tables are of the published figures."""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import keras
import pytest

import run_all
import stop_rule
import tiny_cifar
import train_step
from _common import cifar10, rounds
from _common.store import Store

ROOT = Path(train_step.__file__).parent.parent

pytestmark = pytest.mark.any_backend


def test_one_runs_at_its_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "resnet", tiny_cifar.network)
    arguments = argparse.Namespace(
        small=True, rounds=2, depths=[20], batch_size=128, steps=4, backends=["tensorflow"]
    )
    measured = train_step.measure(arguments)
    lines = train_step.markdown({"tensorflow": measured}).splitlines()
    assert len(lines) == 2 + 2
    for line in lines[2:]:
        assert line.startswith("| 8 | tensorflow | ")
    assert all(rate > 0 for row in measured["rows"] for rate in row["images_per_second"])


def tables(name: str, figures: Any) -> str:
    """What a benchmark makes of its figures."""
    module = importlib.import_module(name)
    if name == "beside_pytorch":
        return module.tables(figures["seconds"])
    if name == "input_pipeline":
        return module.markdown(figures["rounds"], figures["environment"]["cores"])
    if name == "time_to_accuracy":
        store = Store(None, {}, resume=False)
        store.content = figures
        return module.measure(store, figures["tasks"], 5)
    if name.startswith("suggestion"):
        store, seeds = Store(None, {}, resume=False), 5 if name == "suggestion_quality" else 3
        store.content = figures
        return module.COMPARISON.report(module.COMPARISON.cells(store, seeds), seeds)
    return module.markdown(figures)


@pytest.mark.parametrize("name", run_all.BENCHMARKS)
def test_a_published_table_is_of_the_published_figures(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Everything is there: nothing is to be measured.
    monkeypatch.setattr(keras.Model, "compile", None)
    figures = json.loads((ROOT / "results" / "benchmarks" / f"{name}.json").read_text())
    page = (ROOT / "docs" / "benchmarks" / f"{name}.md").read_text()
    script = str(Path(run_all.__file__).with_name(f"{name}.py"))
    assert page == rounds.page(script, tables(name, figures))


def test_the_published_table_of_the_stop_rule_is_of_the_published_figures() -> None:
    figures = json.loads((ROOT / "results" / "benchmarks" / "stop_rule.json").read_text())
    assert stop_rule.table(figures) in (ROOT / "docs" / "benchmarks" / "stop_rule.md").read_text()


@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_what_one_gains_is_what_the_published_table_says(name: str) -> None:
    told = " ".join((ROOT / name).read_text().split())
    page = (ROOT / "docs" / "benchmarks" / "time_to_accuracy.md").read_text()
    untuned = page.partition("## Tuned")[0].splitlines()
    cells = [cell.strip() for cell in untuned[-2].strip("|").split("|")]
    assert cells[0] == "all tasks"
    *_, cosine, constant, _, adam = (
        cell.replace("*", "").rstrip(")").split(" (") for cell in cells
    )
    rows = [row for row in untuned if "SGD |" in row or "AdamW |" in row]
    tasks = {7: "seven", 8: "eight", 9: "nine", 10: "ten", 11: "eleven"}[len(rows)]
    assert f"On {tasks} small tasks" in told
    told_of = "a constant rate of Keras's default takes"
    assert f"{told_of} {constant[0]} times (95% interval {constant[1]})" in told
    assert f"`Adam()` {adam[0]} times ({adam[1]})" in told
    assert f"`CosineDecay` as in Keras's documentation {cosine[0]} times ({cosine[1]})" in told
