"""The search: what it trains, what it counts, and what it refuses."""

import sqlite3
from collections.abc import Callable
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
from keras_onecycle.search import SearchResult, Setting, grid_search
from keras_onecycle.search._folds import Folds

GRID = {"weight_decay": [0.1, 0.0], "units": [3]}


def data(classes: int = 3, rows: int = 48) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(rows) % classes
    return (rng.normal(size=(rows, 4)) + y[:, None]).astype("float32"), y


def build(weight_decay: float = 0.0, units: int = 3, momentum: float = 0.9) -> keras.Model:
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
        # Quicker to compile, and most of these tests compile a lot.
        jit_compile=keras.backend.backend() == "jax",
    )
    return model


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


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., SearchResult]:
    def run(build: Any = build, grid: Any = GRID, x: Any = None, y: Any = None, **arguments: Any):  # noqa: ANN202
        if x is None:
            x, y = data()
        arguments = {
            "folds": 2,
            "epochs": 1,
            "batch_size": 8,
            "max_lr": 0.1,
            "storage": tmp_path / "search.db",
            "verbose": 0,
            **arguments,
        }
        return grid_search(build, grid, x, y, **arguments)

    return run


def cross_entropy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    logits = model.predict(x, verbose=0).astype("float64")
    logits -= logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(y)), y].mean())


# What is trained


def test_values_are_those_of_trainings_by_hand(search: Callable) -> None:
    x, y = data()
    result = search(epochs=2, seed=5)
    splits = StratifiedKFold(2, shuffle=True, random_state=5).split(x, y)
    wanted = []
    for fold, (train, held_out) in enumerate(splits):
        keras.utils.set_random_seed(5 + fold)
        model = build(weight_decay=0.1)
        cycle = OneCycle(0.1)
        model.fit(x[train], y[train], batch_size=8, epochs=2, verbose=0, callbacks=[cycle])
        # Without the penalty, which Keras's own `val_loss` has.
        wanted.append(cross_entropy(model, x[held_out], y[held_out]))
    setting = result.settings[0]
    assert setting.params == {"weight_decay": 0.1, "units": 3}
    np.testing.assert_allclose(setting.values, wanted, rtol=1e-5)
    assert setting.mean == pytest.approx(np.mean(wanted))
    assert setting.std == pytest.approx(np.std(wanted, ddof=1), rel=1e-4)
    assert setting.max_lr == 0.1


def test_a_range_test_for_each_setting(search: Callable) -> None:
    x, y = data(rows=96)
    arguments = {"num_steps": 60, "max_lr": 20.0}
    result = search(x=x, y=y, max_lr=None, range_test=arguments, suggest="minimum")
    train, _ = next(StratifiedKFold(2, shuffle=True, random_state=0).split(x, y))
    for setting in result.settings:
        keras.utils.set_random_seed(0)
        test = lr_find(
            build(**setting.params), x[train], y[train], batch_size=8, verbose=0, **arguments
        )
        assert setting.max_lr == pytest.approx(test.suggest("minimum"), rel=1e-4)


@pytest.mark.any_backend
def test_parameters_of_the_training_are_not_given_to_build(search: Callable) -> None:
    grid = {"max_lr": [0.1, 0.2], "batch_size": [8], "base_momentum": [0.8], "epochs": [2]}
    seen: list[OneCycle] = []

    class See(keras.callbacks.Callback):
        def set_params(self, params: dict) -> None:
            seen.append(params)

    result = search(grid=grid, max_lr=None, epochs=1, callbacks=[See()])
    assert [s.max_lr for s in result.settings] == [0.1, 0.2]
    assert {(p["epochs"], p["steps"]) for p in seen} == {(2, 3)}
    assert "| max_lr | batch_size |" in result.table()


def test_refit_is_a_training_on_all_data(search: Callable) -> None:
    x, y = data()
    result = search(epochs=2)
    model = result.refit()
    keras.utils.set_random_seed(0)
    wanted = build(**result.best.params)
    wanted.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[OneCycle(0.1)])
    for got, by_hand in zip(model.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_allclose(got, by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.any_backend
def test_a_function_gives_the_data_of_a_fold(search: Callable) -> None:
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


def test_a_fixed_validation_set_with_weights(search: Callable) -> None:
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


def test_a_diverged_setting_is_told_and_the_rest_goes_on(search: Callable) -> None:
    result = search(grid={"max_lr": [1e38, 0.1]}, max_lr=None, epochs=3)
    bad, good = result.settings
    assert bad.failure.startswith("diverged")
    assert np.isnan(bad.mean)
    assert good.failure is None
    assert result.best is good
    assert "diverged" in result.table().splitlines()[-1]
    assert "diverged" not in result.table().splitlines()[2]


@pytest.mark.any_backend
def test_a_range_test_without_suggestion_is_told_too(search: Callable) -> None:
    def suggest(lr: np.ndarray, loss: np.ndarray) -> float:
        raise ValueError("none here")

    result = search(max_lr=None, range_test={"num_steps": 40}, suggest=suggest)
    assert [s.failure for s in result.settings] == ["diverged: no learning rate: none here"] * 2
    with pytest.raises(ValueError, match="so none is best"):
        _ = result.best


# Samplers and pruners


@pytest.mark.any_backend
def test_a_sampler_draws_so_many_settings(search: Callable) -> None:
    grid = {
        "weight_decay": optuna.distributions.FloatDistribution(1e-6, 1e-2, log=True),
        "units": [2, 3],
    }
    sampler = optuna.samplers.TPESampler(seed=0)
    result = search(grid=grid, sampler=sampler, num_trials=4, validation_data=data())
    assert len(result.settings) == 4
    assert len({s.params["weight_decay"] for s in result.settings}) == 4
    assert all(1e-6 <= s.params["weight_decay"] <= 1e-2 for s in result.settings)
    assert {s.params["units"] for s in result.settings} <= {2, 3}


def test_a_pruner_ends_a_setting_early(search: Callable) -> None:
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


@pytest.mark.any_backend
def test_an_interrupted_search_goes_on_and_a_finished_one_is_read(search: Callable) -> None:
    interrupted = Counted(fail_at=4)
    grid = {"weight_decay": [0.0, 0.1, 0.2]}
    with pytest.raises(KeyboardInterrupt):
        search(interrupted, grid)
    again = Counted()
    result = search(again, grid)
    # Two folds for each setting, and one build to see that the metric is there.
    decays = [call["weight_decay"] for call in again.calls]
    # What was interrupted comes last.
    assert decays == [0.2, 0.2, 0.2, 0.1, 0.1]
    assert [s.params["weight_decay"] for s in result.settings] == grid["weight_decay"]
    finished = Counted()
    assert search(finished, grid).settings == result.settings
    assert not finished.calls


@pytest.mark.any_backend
def test_a_trial_that_another_worker_failed_is_not_counted(
    search: Callable, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    calls = []

    def taken_for_dead(units: int) -> keras.Model:
        calls.append(units)
        if len(calls) == 2:
            study = optuna.load_study(study_name="search", storage=storage)
            study.tell(study.trials[-1].number, state=optuna.trial.TrialState.FAIL)
        return build(units=units)

    with pytest.warns(UserWarning, match="no sign of life"):
        result = search(taken_for_dead, {"units": [3]})
    assert len(result.settings) == 1
    trials = optuna.load_study(study_name="search", storage=storage).trials
    assert [t.state.name for t in trials] == ["FAIL", "COMPLETE"]


@pytest.mark.any_backend
def test_a_surplus_trial_is_not_trained(search: Callable, tmp_path: Path) -> None:
    # As when two workers enqueue the same setting at the same time.
    grid = {"units": [2, 3]}
    search(grid=grid)
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    study = optuna.load_study(study_name="search", storage=storage)
    identity = study.user_attrs
    optuna.delete_study(study_name="search", storage=storage)
    study = optuna.create_study(study_name="search", storage=storage)
    for key, value in identity.items():
        study.set_user_attr(key, value)
    for setting in (0, 1, 0, 1):
        study.enqueue_trial({"units": grid["units"][setting]}, user_attrs={"setting": setting})
    result = search(grid=grid)
    assert [s.params["units"] for s in result.settings] == [2, 3]
    assert [t.state.name for t in study.trials].count("COMPLETE") == 2


@pytest.mark.any_backend
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


@pytest.mark.any_backend
def test_table_and_pictures() -> None:
    made = [
        Setting({"a": a, "b": b}, (a + len(b), a + len(b) + 1.0), 0.5)
        for a in (0.1, 0.001)
        for b in ("x", "yy")
    ]
    result = SearchResult(made, "val_loss", "minimize")
    assert result.best.params == {"a": 0.001, "b": "x"}
    assert result.table().splitlines()[2] == "| 0.001 | x | 0.5 | 1.501 | 0.7071 | 2 |"
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


# What is refused


@pytest.mark.any_backend
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
        ({"grace_period": 3}, ValueError, "grace_period=3"),
        ({"epoch": 3}, TypeError, "`fit` has no argument 'epoch'"),
        ({"validation_split": 0.1}, ValueError, "validation_split=0.1"),
        ({"one_cycle": {"pct_start": 2}}, ValueError, "pct_start=2"),
        ({"range_test": {"num_steps": 1}}, ValueError, "num_steps=1"),
        ({"storage": "no/such/folder/search.db"}, ValueError, "a folder that exists"),
        ({"storage": "sqlite://"}, ValueError, "in memory has no second worker"),
        ({"storage": "postgresql://nobody@127.0.0.1:9/none"}, ValueError, "cannot be reached"),
        ({"storage": "nonsense://x"}, ImportError, "driver of this database"),
        ({"x": [object()]}, TypeError, "`x` must be arrays"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, ValueError, "equal lengths"),
    ],
)
def test_bad_input_is_refused_before_any_training(
    search: Callable, arguments: dict, error: type[Exception], message: str
) -> None:
    never = Counted(fail_at=1)
    with pytest.raises(error, match=message):
        search(**{"build": never, **arguments})
    assert not never.calls


@pytest.mark.any_backend
def test_a_password_is_not_told(search: Callable) -> None:
    with pytest.raises(ValueError, match="cannot be reached") as caught:
        search(storage="postgresql://nobody:secret@127.0.0.1:9/none")
    assert "secret" not in str(caught.value)


@pytest.mark.any_backend
def test_an_unknown_metric_is_told_before_training(search: Callable) -> None:
    class NoTraining(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict | None = None) -> None:
            raise AssertionError

    with pytest.raises(ValueError, match=r"it has: .'val_accuracy', 'val_loss'"):
        search(monitor="val_auc", callbacks=[NoTraining()])


@pytest.mark.any_backend
def test_storage_of_another_search(search: Callable, tmp_path: Path) -> None:
    search(grid={"units": [3]})
    never = Counted(fail_at=1)
    with pytest.raises(ValueError, match="another search, which differs in epochs, grid"):
        search(never, {"weight_decay": [0.0]}, epochs=2)
    x, y = data()
    with pytest.raises(ValueError, match="another search, which differs in data"):
        search(grid={"units": [3]}, x=x + 1, y=y)
    # Beside it, under another name.
    assert len(search(study_name="other").settings) == 2

    foreign = tmp_path / "foreign.db"
    study = optuna.create_study(study_name="search", storage=f"sqlite:///{foreign}")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match="another search"):
        search(never, storage=foreign)
    text = tmp_path / "text.db"
    text.write_text("no database, but long enough for a header of one\n" * 9)
    with pytest.raises(ValueError, match="no database of Optuna's"):
        search(never, {"weight_decay": [0.0]}, storage=text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE version_info (a, b)")
    with pytest.raises(ValueError, match="no database of Optuna's"):
        search(never, {"weight_decay": [0.0]}, storage=other)


@pytest.mark.any_backend
def test_build_must_return_a_compiled_model(search: Callable) -> None:
    with pytest.raises(TypeError, match="compiled with an optimizer"):
        search(lambda weight_decay, units: keras.Sequential([keras.Input((4,))]))
