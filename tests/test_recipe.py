"""The recipe goes from end to end, says what each step gave, and keeps its searches."""

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from examples import recipe
from keras_onecycle import search
from keras_onecycle.search import BatchSizeResult, SearchResult, Setting


def task() -> recipe.Task:
    rng = np.random.default_rng(0)
    y = np.arange(128) % 4
    x = (rng.normal(size=(128, 6)) + 2 * np.eye(4, 6)[y]).astype("float32")

    def network(weight_decay: float, dropout: float) -> keras.Model:
        l2 = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
        return keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, "tanh", kernel_regularizer=l2),
                keras.layers.Dropout(dropout),
                keras.layers.Dense(4, kernel_regularizer=l2),
            ]
        )

    return recipe.Task(
        (x, y),
        (x, y),
        network,
        epochs=1,
        batch_sizes=(64,),
        weight_decays=(1e-3, 0.0),
        dropouts=(0.0,),
    )


def first_setting_alone(build: Callable, grid: dict, *arguments: Any, **named: Any) -> SearchResult:
    first = {name: values[:1] for name, values in grid.items()}
    return search.grid_search(build, first, *arguments, **named)


@pytest.mark.any_backend
def test_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = BatchSizeResult(batch_sizes=[32, 64], step_times=[0.1, 0.1])
    monkeypatch.setattr(recipe, "find_batch_size", lambda *arguments, **named: sizes)
    # What was found is better on average, but by no more than the spread.
    values = {"judged_default": [0.9, 1.0, 1.1], "judged_found": [0.6, 1.2, 0.9]}

    def searched(*arguments: Any, **named: Any) -> SearchResult:
        for name, folds in values.items():
            if named["study_name"].startswith(name):
                return SearchResult([Setting({}, tuple(folds))], "val_loss", "minimize")
        return first_setting_alone(*arguments, **named)

    monkeypatch.setattr(recipe, "grid_search", searched)
    recipe.run("the command", task(), seeds=2, folds=2, out=tmp_path)
    table = (tmp_path / "recipe.md").read_text()
    for step in (
        "batch size",
        "range test",
        "weight decay, by range tests",
        "weight decay and learning rate, by search",
        "dropout and momentum, by search",
        "kept | default: what was found is not better",
        "trained: default",
        "trained: found",
        "cost",
    ):
        assert f"| {step}" in table
    results = json.loads((tmp_path / "results.json").read_text())
    assert {len(values) for values in results["test"].values()} == {2}
    assert 1e-6 < results["settings"]["found"]["max_lr"] < 10
    assert results["kept"] == "default"
    assert (tmp_path / "recipe.png").stat().st_size > 10_000

    # What is kept there, the next run of the same command only reads.
    with contextlib.closing(sqlite3.connect(tmp_path / "search.db")) as database:
        names = database.execute("SELECT study_name FROM studies ORDER BY study_name").fetchall()
        states = database.execute("SELECT DISTINCT state FROM trials").fetchall()
    assert [name.split()[0] for (name,) in names] == ["batch_size", "dropout", "weight_decay"]
    assert states == [("COMPLETE",)]


@pytest.mark.any_backend
def test_bad_options_are_named(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    for option in ("--seeds", "--epochs", "--num-train"):
        with pytest.raises(SystemExit):
            recipe.main([option, "0"])
        assert option in capsys.readouterr().err
    folder = ["--out", str(tmp_path), "--data-dir", str(tmp_path / "none")]
    assert recipe.main(["--dataset", "cifar10", *folder]) == 2
    assert "error: " in capsys.readouterr().err
