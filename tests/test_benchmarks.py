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
    if name == "suggestion":
        store = Store(None, {}, resume=False)
        store.content = figures
        return module.report(store)
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
