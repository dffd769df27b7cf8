"""The grid search: how a setting's parameters are used, what is counted, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import matplotlib.pyplot as plt
import ml_dtypes
import numpy as np
import optuna
import pytest
from sklearn.model_selection import GroupKFold

import untrained
from keras_onecycle import OneCycle
from keras_onecycle.search import SearchResult, Setting, cross_validation, grid_search
from untrained import Untrained

pytestmark = pytest.mark.any_backend


class Builds:
    """`build` of models that are not trained, whose loss is `units`; some settings raise an error.

    Args:
        errors: Dict of what training raises, or what it returns as loss, by `units`.
    """

    def __init__(self, errors: dict[int, Any] | None = None) -> None:
        self.errors = errors or {}
        self.units: list[int] = []
        self.fits: list[dict] = []

    def __call__(self, units: int, weight_decay: float = 0.0) -> keras.Model:
        self.units.append(units)
        if units < 0:
            raise ValueError(f"no layer has {units} units")
        return Untrained(self.fits, self.errors.get(units, 0.0), units)


def search(build: Any, grid: Any, x: Any = None, y: Any = None, **arguments: Any) -> SearchResult:
    if x is None:
        x, y = untrained.data()
    return grid_search(build, grid, x, y, **{"cv": 2, "max_lr": 0.1, **arguments})


@pytest.fixture
def storage() -> optuna.storages.BaseStorage:
    return optuna.storages.InMemoryStorage()


# What is trained


def test_a_setting_is_trained_and_refitted_with_its_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    builds = Builds()
    grid = {
        "units": [3],
        "max_lr": [0.1, np.float64(0.2)],
        "batch_size": np.array([8]),
        "base_momentum": [0.8],
        "epochs": [np.int64(2)],
    }
    result = search(builds, grid, max_lr=None, one_cycle={"div_factor": 5})
    assert result.monitor == "val_loss"
    assert [setting.params["max_lr"] for setting in result.settings] == [0.1, 0.2]
    assert [setting.max_lr for setting in result.settings] == [0.1, 0.2]
    assert [setting.values for setting in result.settings] == [(3.0, 3.0)] * 2
    assert {type(value) for value in result.settings[1].params.values()} == {int, float}
    result.refit()
    assert len(builds.fits) == 2 * 2 + 1
    for given in builds.fits:
        cycle = given["callbacks"][0]
        assert (given["epochs"], given["batch_size"]) == (2, 8)
        assert (cycle.base_momentum, cycle.div_factor) == (0.8, 5)
    assert sorted(given["callbacks"][0].max_lr for given in builds.fits) == [0.1] * 3 + [0.2] * 2
    assert len(builds.fits[-1]["x"]) == 48
    result.refit(*untrained.data(12))
    assert len(builds.fits[-1]["x"]) == 12
    # Without a storage nothing is written.
    assert not list(tmp_path.iterdir())


def test_one_range_test_for_a_search_or_one_for_each_setting(
    monkeypatch: pytest.MonkeyPatch, storage: optuna.storages.BaseStorage
) -> None:
    tested: list[int] = []

    def lr_find(model: keras.Model, *data: Any, **arguments: Any) -> SimpleNamespace:
        tested.append(int(model._value))
        return SimpleNamespace(suggest=lambda: 0.1 * len(tested))

    monkeypatch.setattr(cross_validation, "lr_find", lr_find)
    grid = {"units": [3, 2, 4]}
    one = search(Builds(), grid, max_lr=None, storage=storage)
    assert [setting.max_lr for setting in one.settings] == [0.1] * 3
    assert tested == [3]
    # It is kept with the study.
    search(Builds(), grid, max_lr=None, storage=storage)
    assert tested == [3]
    each = search(Builds(), grid, max_lr="each")
    rates = sorted(setting.max_lr for setting in each.settings)
    assert rates == pytest.approx([0.2, 0.3, 0.4])
    assert sorted(tested[1:]) == [2, 3, 4]


def test_a_metric_and_folds_that_are_given_once() -> None:
    x, y = untrained.data()

    class Measured(Untrained):
        def evaluate(self, x: Any, y: Any = None, **arguments: Any) -> dict[str, float]:
            sizes.append(len(x))
            return {"loss": 1.0, "r2": self._value / 10}

    sizes: list[int] = []
    folds = GroupKFold(3).split(x, y, np.arange(48) // 6)
    result = search(
        lambda units: Measured([], value=units),
        {"units": [3, 7, 5]},
        monitor="val_r2",
        direction="maximize",
        cv=folds,
    )
    assert result.best.params == {"units": 7}
    assert result.best.values == (0.7, 0.7, 0.7)
    # The untrained model on two samples, so that a wrong name is told before training.
    assert sizes == [2] + [18, 18, 12] * 3


# What fails, and what is counted


def test_settings_that_fail_or_diverge_are_listed_and_the_rest_goes_on(
    storage: optuna.storages.BaseStorage,
) -> None:
    grid = {"units": [2, -1, 3, 4]}
    builds = Builds({3: np.nan, 4: OSError("disk | full\nof logs")})
    result = search(builds, grid, storage=storage)
    good, build_fails, diverges, training_fails = result.settings
    assert good == Setting({"units": 2}, (2.0, 2.0), 0.1)
    assert build_fails.failure == "failed: ValueError: no layer has -1 units"
    assert diverges.failure == "diverged: the loss is no longer a number"
    assert training_fails.failure == "failed: OSError: disk | full\nof logs"
    assert np.isnan(diverges.mean)
    assert result.best is good
    rows = result.table().splitlines()
    assert rows[2] == "| 2 | 0.1 | 2 | 0 | 2 | best |"
    assert "| 4 |  |  |  | 0 | failed: OSError: disk / full |" in rows
    # The same call reads it, and builds the first model, which shows that it can.
    builds.units.clear()
    assert search(builds, grid, storage=storage).settings == result.settings
    assert builds.units == [2]


def test_a_search_in_which_all_failed_is_an_error() -> None:
    broken = Builds({2: OSError("disk full"), 3: OSError("disk full")})
    with pytest.raises(RuntimeError, match="Every setting failed: OSError: disk full"):
        search(broken, {"units": [2, 3]})
    with pytest.raises(ValueError, match="no layer has -1 units"):
        search(Builds(), {"units": [-1, 2]})


def test_an_error_of_the_storage_ends_the_search() -> None:
    class Broken(optuna.storages.InMemoryStorage):
        def set_trial_user_attr(self, *arguments: Any) -> None:
            raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        search(Builds(), {"units": [2, 3]}, storage=Broken())


def states(storage: optuna.storages.BaseStorage) -> list[str]:
    study = optuna.load_study(study_name="grid_search", storage=storage)
    return [trial.state.name for trial in study.trials]


def test_after_ctrl_c_the_same_call_goes_on(storage: optuna.storages.BaseStorage) -> None:
    grid = {"units": [1, 2, 3]}
    with pytest.raises(KeyboardInterrupt):
        search(Builds({2: KeyboardInterrupt()}), grid, storage=storage)
    done = states(storage).count("COMPLETE")
    builds = Builds()
    result = search(builds, grid, storage=storage)
    assert [setting.mean for setting in result.settings] == [1, 2, 3]
    assert len(builds.fits) == 2 * (3 - done)
    # It is finished, and only read.
    again = Builds()
    assert search(again, grid, storage=storage).settings == result.settings
    assert not again.fits


def test_a_setting_counts_once_whoever_trained_it_how_often(
    storage: optuna.storages.BaseStorage,
) -> None:
    grid = {"units": [1, 2, 3]}
    first = search(Builds(), grid, storage=storage)
    study = optuna.load_study(study_name="grid_search", storage=storage)
    # As from a worker that was taken for dead, and from one that died and was not followed.
    for trial, state in zip(study.trials, ("COMPLETE", "FAIL", "RUNNING"), strict=True):
        value = 9.0 if state == "COMPLETE" else None
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.params, distributions=trial.distributions, value=value,
                state=optuna.trial.TrialState[state], user_attrs={"values": [9.0, 9.0]},
            )
        )  # fmt: skip
    builds = Builds()
    assert search(builds, grid, storage=storage).settings == first.settings
    assert not builds.fits


# An old study


def test_an_edited_search_in_an_old_study_is_refused(storage: optuna.storages.BaseStorage) -> None:
    x, y = untrained.data()
    stop = keras.callbacks.EarlyStopping
    known = {
        "grid": {"units": [3, 2]},
        "storage": storage,
        "class_weight": {0: 1.0, 1: 2.0},
        "callbacks": [stop("loss")],
    }
    found = search(Builds(), **known)
    assert search(Builds(), **{**known, "callbacks": [stop("loss")]}).settings == found.settings
    for change, different in (
        ({"grid": {"units": [3, 2, 4]}}, "grid"),
        ({"grid": {"units": [3], "weight_decay": [0.0]}, "epochs": 2}, "grid, epochs"),
        ({"max_lr": 0.2}, "max_lr"),
        ({"x": x + 1, "y": y}, "data"),
        ({"x": x.astype(ml_dtypes.bfloat16), "y": y}, "data"),
        ({"cv": 3}, "data"),
        ({"one_cycle": {"pct_start": 0.3}}, "one_cycle"),
        ({"class_weight": {0: 1.0, 1: 3.0}}, "fit_arguments"),
    ):
        with pytest.raises(ValueError, match=f"another search, which differs in {different}\\."):
            search(Builds(), **{**known, **change})
    # Beside it, under another name; and arrays of any type.
    low = {"x": x.astype(ml_dtypes.bfloat16), "y": y, "study_name": "other"}
    assert len(search(Builds(), **{**known, **low}).settings) == 2

    study = optuna.create_study(study_name="foreign", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match="another search"):
        search(Builds(), **known, study_name="foreign")


# The result


def test_table_and_picture() -> None:
    made = [
        Setting({"a": a, "b": b}, (a + len(b), a + len(b) + 1.0), 0.5)
        for a in (0.1, 0.001)
        for b in ("x", "yy")
    ]
    broken = Setting({"a": 0.5, "b": "z"}, (), None, "failed: OSError: disk full")
    result = SearchResult([*made, broken], "val_loss", "minimize")
    assert result.best.params == {"a": 0.001, "b": "x"}
    assert result.table().splitlines()[2] == "| 0.001 | x | 0.5 | 1.501 | 0.7071 | 2 | best |"
    figure = result.plot()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [
        "a=0.001, b=x (best)",
        "a=0.1, b=x",
        "a=0.001, b=yy",
        "a=0.1, b=yy",
        "a=0.5, b=z (failed)",
    ]
    drawn = {line.get_ydata()[0]: line.get_xdata() for line in figure.axes[0].lines[:-1:2]}
    np.testing.assert_allclose(drawn[1], [1.1, 2.1])
    own, ax = plt.subplots()
    assert result.plot(ax) is own
    assert ax.lines
    plt.close("all")


def test_a_tie_goes_to_the_default() -> None:
    def result(*values: tuple[float, ...]) -> SearchResult:
        settings = [Setting({"a": number}, value) for number, value in enumerate(values)]
        return SearchResult(settings, "val_loss", "minimize")

    # Paired: the folds differ by far more than the settings do.
    folds = np.array([1.0, 5.0, 9.0])
    best = folds - 0.2
    # On average 0.103 above it, with a deviation of 0.105 from fold to fold; 0.1, with one of 0.09.
    tied, worse = best + np.array([0.0, 0.1, 0.21]), best + np.array([0.01, 0.1, 0.19])
    result_of = result(tied, best, worse)
    assert [setting.params["a"] for setting in result_of.ties] == [1, 0]
    assert result_of.best.params == {"a": 0}
    verdicts = [row.split("|")[-2].strip() for row in result_of.table().splitlines()[2:]]
    assert verdicts == ["tie", "", "best"]
    # The first is no tie: the best mean.
    assert result(worse, tied, best).best.params == {"a": 2}
    # One value each has no spread.
    assert result((0.2,), (0.1,)).best.params == {"a": 1}
    assert result((0.1,), (0.1,)).best.params == {"a": 0}
    failed = SearchResult([Setting({"a": 0}, (), failure="diverged: x")], "val_loss", "minimize")
    assert failed.table().splitlines()[-1] == "| 0 |  |  |  | 0 | diverged: x |"
    with pytest.raises(ValueError, match="so none is best"):
        _ = failed.best


# What is refused


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"grid": {"units": []}}, ValueError, "'units' need"),
        ({"grid": {"units": 3}}, TypeError, "'units' need"),
        ({"grid": {"units": [(3, 3)]}}, ValueError, "values of `grid` must be numbers.*units"),
        ({"grid": {"unit": [3]}}, TypeError, "missing a required argument: 'units'"),
        ({"grid": {"units": [3], "rate": [0.1]}}, TypeError, "keyword argument 'rate'"),
        ({"build": lambda units, layers: None}, TypeError, "'layers'"),
        ({"monitor": "val_accuracy"}, ValueError, "`direction` must be"),
        ({"max_lr": "all"}, TypeError, "max_lr='all'"),
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"epoch": 3}, TypeError, "unexpected keyword argument 'epoch'"),
        ({"x": [object()]}, TypeError, "must be arrays"),
    ],
)
def test_bad_input_is_refused_before_any_training(
    arguments: dict, error: type[Exception], message: str, storage: optuna.storages.BaseStorage
) -> None:
    builds = Builds()
    defaults: dict[str, Any] = {"build": builds, "grid": {"units": [3]}, "storage": storage}
    with pytest.raises(error, match=message):
        search(**{**defaults, **arguments})
    assert not builds.units
    assert not storage.get_all_studies()


def test_a_direction_that_is_none_is_refused(storage: optuna.storages.BaseStorage) -> None:
    with pytest.raises(ValueError, match="minimize"):
        search(Builds(), {"units": [3]}, storage=storage, direction="up")
    assert not storage.get_all_studies()


def test_an_unknown_metric_is_told_before_training() -> None:
    builds: list[Callable] = []

    class Measured(Untrained):
        def evaluate(self, *data: Any, **arguments: Any) -> dict[str, float]:
            return {"loss": 0.0, "r2": 1.0}

    with pytest.raises(ValueError, match="one of val_loss, val_r2, which the model has"):
        search(
            lambda units: Measured(builds), {"units": [3]}, monitor="val_auc", direction="maximize"
        )
    assert not builds
    assert OneCycle(0.1)  # A model that trains has a cycle of its own.
