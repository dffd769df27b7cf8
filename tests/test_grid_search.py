"""The search: what it trains, what it counts, and what it refuses."""

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold

from keras_onecycle import OneCycle, lr_find
from keras_onecycle._keras.description import describe
from keras_onecycle.search import SearchResult, Setting, _study, grid_search
from keras_onecycle.search._folds import Folds
from keras_onecycle.search._study import SharedStudy

pytestmark = pytest.mark.any_backend

GRID = {"weight_decay": [0.1, 0.0], "units": [3]}


def data(classes: int = 3, rows: int = 48) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(rows) % classes
    return (rng.normal(size=(rows, 4)) + y[:, None]).astype("float32"), y


def build(
    weight_decay: float = 0.0, units: int = 3, momentum: float = 0.9, run_eagerly: bool = False
) -> keras.Model:
    l2 = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units, "tanh", kernel_regularizer=l2),
            keras.layers.Dense(3, kernel_regularizer=l2),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=run_eagerly,
    )
    return model


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_study, "_PAUSE", 0.01)


class Counted:
    """`build`, which counts its calls and may fail at one."""

    def __init__(self, fail_at: int = 0) -> None:
        self.calls: list[dict[str, Any]] = []
        self.fail_at = fail_at

    def __call__(self, weight_decay: float, units: int = 3) -> keras.Model:
        self.calls.append({"weight_decay": weight_decay, "units": units})
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        return build(weight_decay, units)


def search(
    build: Any = build, grid: Any = GRID, x: Any = None, y: Any = None, **arguments: Any
) -> SearchResult:
    if x is None:
        x, y = data()
    defaults = {"folds": 2, "epochs": 1, "batch_size": 8, "max_lr": 0.1, "verbose": 0}
    return grid_search(build, grid, x, y, **{**defaults, **arguments})


def cross_entropy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    logits = model.predict(x, verbose=0).astype("float64")
    logits -= logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(y)), y].mean())


# What is trained


def test_values_are_those_of_trainings_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = data()
    compiled = partial(build, run_eagerly=False)
    result = search(compiled, {"weight_decay": [0.1], "units": [3]}, epochs=2, seed=5)
    splits = StratifiedKFold(2, shuffle=True, random_state=5).split(x, y)
    wanted = []
    for fold, (train, held_out) in enumerate(splits):
        model = by_hand(x[train], y[train], seed=5 + fold, weight_decay=0.1)
        # Without the penalty, which Keras's own `val_loss` has.
        wanted.append(cross_entropy(model, x[held_out], y[held_out]))
    setting = result.settings[0]
    assert setting.params == {"weight_decay": 0.1, "units": 3}
    np.testing.assert_allclose(setting.values, wanted, rtol=1e-5)
    assert setting.mean == pytest.approx(np.mean(wanted))
    assert setting.std == pytest.approx(np.std(wanted, ddof=1), rel=1e-4)
    assert setting.max_lr == 0.1
    # Without a storage nothing is written.
    assert not list(tmp_path.iterdir())
    trained = by_hand(x, y, seed=5, **result.best.params)
    for got, kept in zip(result.refit().get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_allclose(got, kept, rtol=1e-5, atol=1e-6)


def by_hand(x: np.ndarray, y: np.ndarray, seed: int, **params: Any) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = build(**params, run_eagerly=False)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[OneCycle(0.1)])
    return model


def test_one_range_test_for_a_search_or_one_for_each_setting() -> None:
    x, y = data()
    range_test = {"num_steps": 30, "max_lr": 20.0}
    common = {"range_test": range_test, "suggest": "minimum", "validation_data": (x, y)}
    keras.utils.set_random_seed(0)
    wanted = lr_find(build(units=3), x, y, batch_size=8, verbose=0, **range_test)
    wanted = pytest.approx(wanted.suggest("minimum"), rel=1e-4)
    one = search(grid={"units": [3], "lr_factor": [1, 0.5]}, max_lr=None, **common)
    first, second = (setting.max_lr for setting in one.settings)
    assert first == wanted
    assert second == 0.5 * first
    each = search(grid={"units": [3, 2]}, max_lr="each", **common)
    first, second = (setting.max_lr for setting in each.settings)
    assert first == wanted
    assert second != first


def test_parameters_of_the_training_are_not_given_to_build() -> None:
    grid = {
        "max_lr": [0.1, np.float64(0.2)],
        "batch_size": np.array([8]),
        "base_momentum": [0.8],
        "epochs": [np.int64(2)],
    }
    seen: list[OneCycle] = []

    class See(keras.callbacks.Callback):
        def set_params(self, params: dict) -> None:
            seen.append(params)

    result = search(grid=grid, max_lr=None, epochs=1, callbacks=[See()])
    assert [s.max_lr for s in result.settings] == [0.1, 0.2]
    assert {type(value) for value in result.settings[1].params.values()} == {int, float}
    assert {(p["epochs"], p["steps"]) for p in seen} == {(2, 3)}
    assert "| max_lr | batch_size |" in result.table()


def test_a_function_gives_the_data_of_a_fold() -> None:
    x, y = data()
    seen = []

    def of_fold(fold: int) -> tuple:
        seen.append(fold)
        train = np.arange(len(x)) % 3 != fold
        return (x[train], y[train]), (x[~train], y[~train])

    result = search(x=of_fold, folds=3, grid={"units": [3]})
    assert len(result.settings[0].values) == 3
    assert {0, 1, 2} == set(seen)
    with pytest.raises(ValueError, match="Pass the data to train on"):
        result.refit()
    assert isinstance(result.refit(x, y), keras.Model)


def test_a_fixed_validation_set_with_weights() -> None:
    x, y = data()
    weights = np.where(y == 0, 0.0, 1.0)
    validation = (x[y == 1], y[y == 1])
    result = search(
        x=x,
        y=y,
        sample_weight=weights,
        validation_data=validation,
        grid={"units": [3]},
        monitor="val_accuracy",
        epochs=3,
    )
    keras.utils.set_random_seed(0)
    model = build(units=3)
    cycle = OneCycle(0.1)
    model.fit(x, y, 8, 3, verbose=0, sample_weight=weights, callbacks=[cycle])
    right = model.predict(validation[0], verbose=0).argmax(axis=1) == 1
    assert result.settings[0].values == (pytest.approx(right.mean()),)


def test_a_diverged_setting_is_told_and_the_rest_goes_on() -> None:
    result = search(grid={"max_lr": [1e38, 0.1]}, max_lr=None, epochs=3)
    bad, good = result.settings
    assert bad.failure.startswith("diverged")
    assert np.isnan(bad.mean)
    assert good.failure is None
    assert result.best is good
    assert "diverged" in result.table().splitlines()[-1]
    assert "diverged" not in result.table().splitlines()[2]


def test_a_range_test_without_suggestion_is_told_too() -> None:
    def suggest(lr: np.ndarray, loss: np.ndarray) -> float:
        raise ValueError("none here")

    arguments = {"range_test": {"num_steps": 40}, "suggest": suggest, "grid": {"units": [3]}}
    with pytest.raises(ValueError, match=r"suggests no learning rate: none here.*max_lr=None"):
        search(max_lr=None, **arguments)
    with pytest.raises(RuntimeError, match=r"Every setting of the search failed.*none here"):
        search(max_lr="each", **arguments)


def test_a_setting_that_fails_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    class RaiseInTraining(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict | None = None) -> None:
            if self.model.layers[0].units == 4:
                raise OSError("disk | full")

    builds = Counted()
    grid = {"units": [-1, 4, 3], "weight_decay": [0.0]}
    arguments = {"callbacks": [RaiseInTraining()], "storage": tmp_path / "search.db"}
    result = search(builds, grid, **arguments)
    build_fails, training_fails, good = result.settings
    assert build_fails.failure.startswith("failed: ValueError: ")
    assert "-1" in build_fails.failure
    assert training_fails.failure == "failed: OSError: disk | full"
    assert good.failure is None
    assert result.best is good
    assert (
        result.table().splitlines()[-1]
        == "| 4 | 0 | 0.1 | failed: OSError: disk / full |  | 0 |  |"
    )
    # The same call reads it: two builds of the first that works, for what the model is.
    builds.calls.clear()
    assert search(builds, grid, **arguments).settings == result.settings
    assert [call["units"] for call in builds.calls] == [-1, 4]


def test_a_search_in_which_all_failed_is_an_error() -> None:
    class Broken(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict | None = None) -> None:
            raise OSError("disk full")

    with pytest.raises(RuntimeError, match="the first one with OSError: disk full"):
        search(callbacks=[Broken()])
    with pytest.raises(ValueError, match="no model today"):
        search(no_model)


def no_model(weight_decay: float, units: int) -> keras.Model:
    raise ValueError("no model today")


# Samplers and pruners


def test_a_sampler_draws_so_many_settings() -> None:
    grid = {
        "weight_decay": optuna.distributions.FloatDistribution(1e-6, 1e-2, log=True),
        "units": [2, 3],
    }
    sampler = optuna.samplers.TPESampler(seed=0)
    result = search(grid=grid, sampler=sampler, num_trials=3, validation_data=data())
    assert len(result.settings) == 3
    assert len({s.params["weight_decay"] for s in result.settings}) == 3
    assert all(1e-6 <= s.params["weight_decay"] <= 1e-2 for s in result.settings)
    assert {s.params["units"] for s in result.settings} <= {2, 3}


def test_a_pruner_ends_a_setting_early() -> None:
    class Epochs(keras.callbacks.Callback):
        count = 0

        def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
            self.count += 1

    epochs = Epochs()
    result = search(
        grid={"max_lr": [1e-9]},
        max_lr=None,
        monitor="val_accuracy",
        pruner=optuna.pruners.ThresholdPruner(lower=1.1),
        epochs=5,
        callbacks=[epochs],
    )
    assert result.settings[0].failure == "pruned"
    assert epochs.count == 1


# What is counted


class Study:
    """A study of three settings in a file, whose evaluations are counted."""

    def __init__(self, folder: Path, error: BaseException | None = None, at: int = 0) -> None:
        self.url = f"sqlite:///{folder / 'search.db'}"
        self.evaluated: list[int] = []
        self.error, self.at = error, at

    def evaluate(self, trial: optuna.Trial, params: dict[str, Any]) -> float:
        self.evaluated.append(params["units"])
        if self.error is not None and self.at in (0, len(self.evaluated)):
            raise self.error
        trial.set_user_attr("values", [])
        return 0.5 * params["units"]

    def run(self) -> list[optuna.trial.FrozenTrial]:
        distributions = {"units": optuna.distributions.CategoricalDistribution([1, 2, 3])}
        study = SharedStudy(
            self.url,
            "search",
            direction="minimize",
            identity={"grid": "of this test"},
            distributions=distributions,
            settings=[{"units": units} for units in (1, 2, 3)],
            num_settings=3,
        )
        study.work(self.evaluate, lambda done: None)
        return study.finished()

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name="search", storage=self.url).trials


def test_an_interrupted_search_goes_on_and_a_finished_one_is_read(tmp_path: Path) -> None:
    interrupted = Study(tmp_path, KeyboardInterrupt(), at=2)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    again = Study(tmp_path)
    assert [trial.value for trial in again.run()] == [0.5, 1.0, 1.5]
    # What was interrupted comes last.
    assert again.evaluated == [3, 2]
    finished = Study(tmp_path)
    assert [trial.value for trial in finished.run()] == [0.5, 1.0, 1.5]
    assert not finished.evaluated
    # A setting enqueued twice, as by two workers at the same time, is done once.
    known = optuna.load_study(study_name="search", storage=finished.url).user_attrs
    optuna.delete_study(study_name="search", storage=finished.url)
    twice = optuna.create_study(study_name="search", storage=finished.url)
    for name, value in known.items():
        twice.set_user_attr(name, value)
    for number in (0, 1, 0, 2, 1):
        twice.enqueue_trial({"units": number + 1}, user_attrs={"setting": number})
    assert [trial.value for trial in finished.run()] == [0.5, 1.0, 1.5]
    assert finished.evaluated == [1, 2, 3]


def test_an_error_is_kept_and_a_search_of_errors_alone_begins_anew(tmp_path: Path) -> None:
    broken = Study(tmp_path, OSError("disk full"))
    assert [trial.user_attrs["error"] for trial in broken.run()] == ["OSError: disk full"] * 3
    one_fails = Study(tmp_path, OSError("disk full"), at=2)
    assert [trial.value for trial in one_fails.run()] == [0.5, None, 1.5]
    assert one_fails.evaluated == [1, 2, 3]
    again = Study(tmp_path)
    assert [trial.value for trial in again.run()] == [0.5, None, 1.5]
    assert not again.evaluated


def test_a_trial_that_another_worker_failed_is_not_counted(tmp_path: Path) -> None:
    class TakenForDead(Study):
        def evaluate(self, trial: optuna.Trial, params: dict[str, Any]) -> float:
            value = super().evaluate(trial, params)
            if len(self.evaluated) == 1:
                study = optuna.load_study(study_name="search", storage=self.url)
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            return value

    study = TakenForDead(tmp_path)
    with pytest.warns(UserWarning, match="no sign of life"):
        assert [trial.value for trial in study.run()] == [0.5, 1.0, 1.5]
    assert study.evaluated == [1, 2, 3, 1]
    states = [trial.state.name for trial in study.trials()]
    assert states == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


@given(rows=st.integers(4, 40), folds=st.integers(2, 4), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_folds_validate_each_sample_once(rows: int, folds: int, seed: int) -> None:
    x = np.arange(rows, dtype=float)
    split = Folds(x, x * 0.5, folds=folds, seed=seed)
    held_out = [validation[0] for _, validation in split]
    assert sorted(np.concatenate(held_out)) == list(x)
    for (train, validation), (rows_in, rows_out) in zip(
        split, KFold(folds, shuffle=True, random_state=seed).split(x), strict=True
    ):
        np.testing.assert_array_equal(train[0], x[rows_in])
        np.testing.assert_array_equal(validation[1], x[rows_out] * 0.5)


# The result


def test_table_and_pictures() -> None:
    made = [
        Setting({"a": a, "b": b}, (a + len(b), a + len(b) + 1.0), 0.5)
        for a in (0.1, 0.001)
        for b in ("x", "yy")
    ]
    result = SearchResult(made, "val_loss", "minimize")
    assert result.best.params == {"a": 0.001, "b": "x"}
    assert result.table().splitlines()[2] == "| 0.001 | x | 0.5 | 1.501 | 0.7071 | 2 | best |"
    image = result.plot().images[0].get_array()
    np.testing.assert_allclose(image, [[1.501, 2.501], [1.6, 2.6]])
    curve = result.plot(["b"])
    # Over b, the best of a.
    np.testing.assert_allclose(curve.lines[0].get_ydata(), [1.501, 2.501])
    assert [label.get_text() for label in curve.get_xticklabels()] == ["x", "yy"]
    with pytest.raises(ValueError, match="one or two of"):
        result.plot(["c"])
    with pytest.raises(ValueError, match="did not come from"):
        result.refit()


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
    failed = SearchResult([Setting({"a": 0}, (), failure="pruned")], "val_loss", "minimize")
    assert failed.table().splitlines()[-1] == "| 0 |  | pruned |  | 0 |  |"
    with pytest.raises(ValueError, match="so none is best"):
        _ = failed.best


# What is refused


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"grid": {}}, ValueError, "`grid` must be a dict"),
        ({"grid": {"units": []}}, ValueError, "`grid` must have a list of at least one value"),
        ({"grid": {"units": [3, 3]}}, ValueError, "must differ"),
        ({"grid": {"units": [np.zeros(2)]}}, TypeError, "values of `grid`"),
        ({"grid": {"unit": [3]}}, ValueError, "`build` does not take 'unit'"),
        ({"build": lambda units, layers: None}, ValueError, "does not take 'weight_decay'"),
        (
            {"build": lambda weight_decay, units, layers: None},
            ValueError,
            "`build` needs 'layers'",
        ),
        ({"build": None}, TypeError, "`build` must be a function"),
        ({"folds": 1}, ValueError, "`folds` must be at least 2"),
        ({"folds": 17}, ValueError, "rarest class, 16"),
        ({"folds": 49, "stratify": False}, ValueError, "number of samples, 48"),
        ({"monitor": "accuracy"}, ValueError, "`monitor` must be the name"),
        ({"monitor": "val_thing"}, ValueError, "mode='min'"),
        ({"max_lr": -1.0}, ValueError, "max_lr=-1.0"),
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"sampler": "random"}, ValueError, "sampler='random'"),
        ({"sampler": "tpe"}, TypeError, "`num_trials` must be an integer"),
        ({"num_trials": 3}, ValueError, "`num_trials` is for a sampler"),
        ({"grace_period": 1}, ValueError, "grace_period=1"),
        ({"max_lr": "all"}, TypeError, "max_lr='all'"),
        ({"one_cycle": {"max_lr": 0.1}}, TypeError, "multiple values.*max_lr"),
        ({"epoch": 3}, TypeError, "`fit` has no argument 'epoch'"),
        ({"validation_split": 0.1}, ValueError, "validation_split=0.1"),
        ({"one_cycle": {"pct_start": 2}}, ValueError, "pct_start=2"),
        ({"range_test": {"num_steps": 1}}, ValueError, "num_steps=1"),
        ({"x": [object()]}, TypeError, "`x` must be arrays"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, ValueError, "equal lengths"),
    ],
)
def test_bad_input_is_refused_before_any_training(
    arguments: dict, error: type[Exception], message: str
) -> None:
    never = Counted(fail_at=1)
    with pytest.raises(error, match=message):
        search(**{"build": never, **arguments})
    assert not never.calls


@pytest.mark.parametrize(
    ("storage", "error", "message"),
    [
        ("no/such/folder/search.db", ValueError, "a folder that exists"),
        ("sqlite://", ValueError, "in memory has no second worker"),
        ("postgresql://nobody:secret@127.0.0.1:9/none", ValueError, "cannot be reached"),
        ("nonsense://x", ImportError, "driver of this database"),
    ],
)
def test_a_storage_that_cannot_be_is_refused(
    storage: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        SharedStudy(
            storage,
            "search",
            direction="minimize",
            identity={},
            distributions={},
            settings=[],
            num_settings=0,
        )
    assert "secret" not in str(caught.value)


def test_an_unknown_metric_is_told_before_training() -> None:
    class NoTraining(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict | None = None) -> None:
            raise AssertionError

    with pytest.raises(ValueError, match=r"it has: .'val_accuracy', 'val_loss'"):
        search(monitor="val_auc", callbacks=[NoTraining()])


def test_storage_of_another_search(tmp_path: Path) -> None:
    x, y = data()
    storage = tmp_path / "search.db"
    known = {
        "grid": {"units": [3]},
        "storage": storage,
        "class_weight": {0: 1.0, 1: 2.0, 2: 1.0},
        "steps_per_epoch": 2,
        "callbacks": [keras.callbacks.EarlyStopping("loss", patience=3)],
    }
    found = search(**known)

    def edited(units: int, momentum: float = 0.9, activation: str = "tanh") -> keras.Model:
        model = build(units=units, momentum=momentum)
        model.layers[0].activation = keras.activations.get(activation)
        return model

    # The same model by another function, with layers that Keras has counted on, and new callbacks.
    same = {**known, "callbacks": [keras.callbacks.EarlyStopping("loss", patience=3)]}
    assert search(edited, **same).settings == found.settings
    for change, different in (
        ({"epochs": 2, "grid": {"weight_decay": [0.0]}}, "epochs, grid"),
        ({"x": x + 1, "y": y}, "data"),
        ({"build": partial(edited, activation="relu")}, "model"),
        ({"build": partial(edited, momentum=0.8)}, "compile"),
        ({"class_weight": {0: 1.0, 1: 3.0, 2: 1.0}}, "class_weight"),
        ({"class_weight": None}, "class_weight"),
        ({"steps_per_epoch": 3}, "steps_per_epoch"),
        ({"callbacks": [keras.callbacks.EarlyStopping("loss", patience=4)]}, "callbacks"),
    ):
        with pytest.raises(ValueError, match=f"another search, which differs in {different}\\."):
            search(**{**known, **change})
    # Beside it, under another name.
    assert len(search(storage=storage, study_name="other").settings) == 2

    foreign = tmp_path / "foreign.db"
    study = optuna.create_study(study_name="search", storage=f"sqlite:///{foreign}")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match="another search"):
        search(storage=foreign)
    text = tmp_path / "text.db"
    text.write_text("no database, but long enough for a header of one\n" * 9)
    with pytest.raises(ValueError, match="no database of Optuna's"):
        search(storage=text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE version_info (a, b)")
    with pytest.raises(ValueError, match="no database of Optuna's"):
        search(storage=other)


def test_what_a_model_is_does_not_depend_on_the_names_that_keras_counts_up() -> None:
    class Subclass(keras.Model):
        def __init__(self, units: int) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(units)

    def make(units: int = 2, skip: bool = False, policy: str = "float32") -> list[dict]:
        inputs = keras.Input((4,))
        first = keras.layers.Dense(4, dtype=policy)(inputs)
        second = keras.layers.Dense(4)(first)
        outputs = keras.layers.Add()([first if skip else second, second])
        models = [keras.Model(inputs, outputs), Subclass(units)]
        for model in models:
            model.compile("sgd", "mse")
        return [describe(model) for model in models]

    functional, subclass = make()
    assert make() == [functional, subclass]
    assert make(skip=True)[0]["model"] != functional["model"]
    assert make(policy="bfloat16")[0]["model"] != functional["model"]
    assert make(units=3)[1]["model"] != subclass["model"]


def test_build_must_return_a_compiled_model() -> None:
    with pytest.raises(TypeError, match="compiled with an optimizer"):
        search(lambda weight_decay, units: keras.Sequential([keras.Input((4,))]))
