"""The benchmarks can be imported, one of them runs, and the published tables are of the published figures."""

import argparse
import importlib
import json
from typing import Any

import keras
import pytest

import tiny_cifar
from evidence import pages
from evidence.benchmarks import run_all, train_step
from evidence.benchmarks.measuring.saving import places
from evidence.benchmarks.measuring.store import Store
from examples.cifar10 import resnet

ROOT = pages.ROOT

pytestmark = pytest.mark.any_backend


def test_one_runs_at_its_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet, "resnet", tiny_cifar.network)
    arguments = argparse.Namespace(
        small=True, rounds=2, depths=[20], batch_size=128, steps=4, backends=["tensorflow"]
    )
    measured = train_step.measure(arguments)
    lines = train_step.markdown({"tensorflow": measured}).splitlines()
    assert len(lines) == 2 + 2
    for line in lines[2:]:
        assert line.startswith("| 8 | tensorflow | ")
    assert all(rate > 0 for row in measured["rows"] for rate in row["images_per_second"])


def tables(name: str, figures: Any) -> str | dict[str, str]:
    """What a benchmark makes of its figures."""
    module = importlib.import_module(f"evidence.benchmarks.{name}")
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
    figures = json.loads(
        (ROOT / "evidence" / "results" / "benchmarks" / f"{name}.json").read_text()
    )
    page = ROOT / "docs" / "benchmarks" / f"{name}.md"
    assert pages.filled(page) == places(name, tables(name, figures))
    assert f"python -m evidence.benchmarks.{name} --save" in page.read_text()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize("name", ["README.md"])
def test_what_one_gains_is_what_the_published_table_says(name: str) -> None:
    table = (ROOT / name).read_text().partition("| nothing tuned | all tuned |")[2]
    rows = [cells(line) for line in table.partition("\n\n")[0].splitlines()[2:]]
    told = {label: numbers for label, _, *numbers in rows}
    page = (ROOT / "docs" / "benchmarks" / "time_to_accuracy.md").read_text()
    of_50 = []
    for part in page.partition("## Tuned")[::2]:
        (row,) = (line for line in part.splitlines() if line.startswith("| reached |"))
        counts = [cell.split(" of ") for cell in cells(row)[2:]]
        assert {total for _, total in counts} == {"50"}
        of_50.append([there for there, _ in counts])
    (cycle, _, cosine, constant, _, adam), (of_cycle, of_cosine, of_constant, _) = of_50
    assert told == {
        "`OneCycle`": [f"**{cycle}**", f"**{of_cycle}**"],
        "`CosineDecay`": [cosine, of_cosine],
        "a constant rate": [constant, of_constant],
        "`Adam()`": [adam, ""],
    }


def test_what_suggestions_lose_is_what_the_published_tables_say() -> None:
    pages = {}
    for name in ("on_new_tasks", "quality", "on_larger_sets"):
        page = (ROOT / "docs" / "benchmarks" / f"suggestion_{name}.md").read_text()
        rows = [cells(line) for line in page.splitlines() if line.startswith("| ")]
        # The first table of the page has one line for each method.
        pages[name] = {row[0].removesuffix(" (default)"): row[1:3] for row in reversed(rows)}
    text = (ROOT / "docs" / "range_test.md").read_text()
    table = text.partition("| learning rate by |")[2].partition("\n\n")[0].splitlines()[2:]
    methods = ("edge", "minimum", "valley", "Keras's default rate", "0.1 (SGD), 0.01 (Adam)")
    for (label, *told), name in zip(map(cells, table), methods, strict=True):
        assert name.rstrip(")") in label
        of = [page[name][0] for page in pages.values()]
        assert told == [*of, pages["on_larger_sets"][name][1]]
    readme = " ".join((ROOT / "README.md").read_text().split())
    of = [
        [pages[name][rule][0] for name in ("on_new_tasks", "on_larger_sets")]
        for rule in ("edge", "Keras's default rate")
    ]
    (new, larger), (default_new, default_larger) = of
    assert f"ends {new} percentage points below the best rate of a grid on [new tasks]" in readme
    assert f"and {larger} on the harder ones that the rule was chosen on" in readme
    means = [default.split(" ± ")[0] for default in (default_new, default_larger)]
    assert f"(Keras's default rates: {means[0]} and {means[1]})" in readme
