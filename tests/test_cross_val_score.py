"""One setting, judged on folds: what is trained, what it is judged on, and which data are taken."""

from functools import partial
from typing import Any

import keras
import ml_dtypes
import numpy as np
import optuna
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

import untrained
from keras_onecycle import OneCycle, lr_find
from keras_onecycle.search import cross_val_score
from untrained import Untrained

pytestmark = pytest.mark.any_backend


def build(weight_decay: float = 0.0) -> keras.Model:
    l2 = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, "tanh", kernel_regularizer=l2),
            keras.layers.Dense(3, kernel_regularizer=l2),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def classes() -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(48) % 3
    x = np.random.default_rng(0).normal(size=(48, 4)) + y[:, None]
    return x.astype("float32"), y


def score(x: Any, y: Any = None, build: Any = None, **arguments: Any) -> tuple[Any, list[dict]]:
    """The values of a model that is not trained, and what it was given in each fold."""
    seen: list[dict] = []
    defaults = {"cv": 2, "max_lr": 0.1}
    values = cross_val_score(build or (lambda: Untrained(seen)), x, y, **{**defaults, **arguments})
    return values, seen


# What is trained


def cross_entropy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    logits = model.predict(x, verbose=0).astype("float64")
    logits -= logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(y)), y].mean())


def test_values_are_those_of_trainings_by_hand() -> None:
    x, y = classes()
    values = cross_val_score(
        lambda: build(0.1), x, y, cv=2, max_lr=0.1, epochs=2, batch_size=8, seed=5
    )
    wanted = []
    for fold, (train, held_out) in enumerate(
        StratifiedKFold(2, shuffle=True, random_state=5).split(x, y)
    ):
        keras.utils.set_random_seed(5 + fold)
        model = build(0.1)
        model.fit(x[train], y[train], 8, 2, verbose=0, callbacks=[OneCycle(0.1)])
        # Without the penalty, which Keras's own `val_loss` has.
        wanted.append(cross_entropy(model, x[held_out], y[held_out]))
    np.testing.assert_allclose(values, wanted, rtol=1e-5)


def test_without_a_rate_a_range_test_of_the_first_fold_suggests_it() -> None:
    x, y = untrained.data(320)
    seen: list[OneCycle] = []

    class See(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict | None = None) -> None:
            seen.append(self.params)
            rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    def linear() -> keras.Model:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
        return model

    rates: list[float] = []
    train, held_out = next(KFold(2, shuffle=True, random_state=3).split(x))
    cross_val_score(linear, x, y, cv=[(train, held_out)], epochs=1, seed=3, callbacks=[See()])
    keras.utils.set_random_seed(3)
    suggested = lr_find(linear(), x[train], y[train], batch_size=32, verbose=0).suggest()
    # The range test went without the callbacks, and the cycle begins at a tenth.
    assert rates == [pytest.approx(suggested / 10, rel=1e-4)]


def test_the_objective_of_an_optuna_study() -> None:
    x, y = untrained.data()

    def objective(trial: optuna.Trial) -> float:
        decay = trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
        return cross_val_score(lambda: Untrained([], value=decay), x, y, max_lr=0.1).mean()

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=5)
    decays = [trial.params["weight_decay"] for trial in study.trials]
    assert study.best_value == pytest.approx(min(decays), abs=1e-6)


def test_a_pruner_sees_one_fold_after_the_other() -> None:
    x, y = untrained.data()
    seen: list[dict] = []

    def objective(trial: optuna.Trial) -> float:
        value, values = trial.suggest_float("value", 0, 1), []
        for fold, rows in enumerate(KFold(3, shuffle=True, random_state=0).split(x)):
            build = partial(Untrained, seen, value=value)
            values += [*cross_val_score(build, x, y, cv=[rows], max_lr=0.1)]
            trial.report(np.mean(values), fold)
            if trial.should_prune():
                raise optuna.TrialPruned
        return np.mean(values)

    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.5))
    for value in (0.25, 0.75):
        study.enqueue_trial({"value": value})
    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    assert len(seen) == 3 + 1


def test_what_fit_is_given() -> None:
    x, y = untrained.data()
    own = keras.callbacks.EarlyStopping("loss")
    _, seen = score(
        x,
        y,
        epochs=3,
        batch_size=8,
        one_cycle={"base_momentum": 0.7},
        callbacks=[own],
        class_weight={0: 2},
    )
    for got in seen:
        cycle, _, last = got["callbacks"]
        assert cycle.base_momentum == 0.7
        assert last is own
        assert (got["epochs"], got["batch_size"], got["class_weight"]) == (3, 8, {0: 2})
        assert got["validation"]["batch_size"] == 8


def test_a_fold_that_diverges_is_nan_and_ends_it() -> None:
    seen: list[dict] = []
    losses = iter([0.0, np.nan, 0.0])
    values, _ = score(*untrained.data(), build=lambda: Untrained(seen, loss=next(losses)), cv=3)
    np.testing.assert_array_equal(values, [0, np.nan, np.nan])
    assert len(seen) == 2


# Which data


def shuffled_index() -> tuple[np.ndarray, pd.Series]:
    x, y = untrained.data()
    return x, pd.Series(y, index=np.random.default_rng(1).permutation(len(y)))


def tensors() -> tuple:
    tf = pytest.importorskip("tensorflow")
    x, y = untrained.data()
    return tf.constant(x), tf.constant(y)


TAKEN = {
    "a Series whose index is shuffled": shuffled_index,
    "a DataFrame": lambda: tuple(map(pd.DataFrame, untrained.data())),
    "TensorFlow's tensors": tensors,
    "the backend's tensors": lambda: tuple(map(keras.ops.convert_to_tensor, untrained.data())),
    "lists": lambda: tuple(part.tolist() for part in untrained.data()),
}


@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
def test_rows_stay_paired(make: Any) -> None:
    values, seen = score(*make())
    np.testing.assert_allclose(values, [0, 0], atol=1e-5)
    held_out = np.concatenate([np.asarray(got["validation"]["x"]) for got in seen])
    np.testing.assert_allclose(
        np.sort(held_out[:, 0]), np.sort(untrained.data()[0][:, 0]), rtol=1e-6
    )


def test_other_arrays_and_nested_ones() -> None:
    x, y = untrained.data()
    _, seen = score(
        {"a": x.astype(ml_dtypes.bfloat16), "b": [scipy.sparse.coo_matrix(x)]},
        None,
        sample_weight=pd.Series(y),
    )
    for got, (train, held_out) in zip(
        seen, KFold(2, shuffle=True, random_state=0).split(x), strict=True
    ):
        assert got["x"]["a"].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(got["x"]["b"][0].toarray(), x[train])
        np.testing.assert_array_equal(got["sample_weight"], y[train])
        np.testing.assert_array_equal(got["validation"]["sample_weight"], y[held_out])


def test_batch_size_without_targets() -> None:
    _, seen = score(untrained.data()[0], batch_size=16)
    assert [got["batch_size"] for got in seen] == [16, 16]
    dataset = ((row, row) for row in range(3))
    _, (got,) = score(dataset, validation_data=untrained.data())
    assert "batch_size" not in got
    assert got["validation"]["batch_size"] == 32


@given(rows=st.integers(4, 40), folds=st.integers(2, 4), seed=st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_folds_validate_each_sample_once(rows: int, folds: int, seed: int) -> None:
    x, y = untrained.data(rows)
    _, seen = score(x, y, cv=folds, seed=seed)
    for got, (train, held_out) in zip(
        seen, KFold(folds, shuffle=True, random_state=seed).split(x), strict=True
    ):
        np.testing.assert_array_equal(got["y"], y[train])
        np.testing.assert_array_equal(got["validation"]["y"], y[held_out])


@pytest.mark.parametrize(
    "of",
    [np.asarray, lambda y: np.eye(3)[y], lambda y: pd.Series(list("abc"))[y]],
    ids=["integers", "one-hot", "strings"],
)
def test_classes_are_stratified(of: Any) -> None:
    _, y = classes()

    class Counts(Untrained):
        def evaluate(self, x: Any, y: Any = None, **arguments: Any) -> dict[str, float]:
            counts.append(np.unique(x[:, 0], return_counts=True)[1].tolist())
            return {"loss": 0.0}

    counts: list[list[int]] = []
    score(y[:, None], of(y), build=lambda: Counts([]), cv=4)
    assert counts == [[4, 4, 4]] * 4


def test_splitters_of_scikit_learn() -> None:
    x, y = untrained.data()
    groups = np.arange(len(x)) // 12
    _, seen = score(x, y, cv=GroupKFold(4).split(x, y, groups))
    wanted = [held_out for _, held_out in GroupKFold(4).split(x, y, groups)]
    for got, held_out in zip(seen, wanted, strict=True):
        np.testing.assert_array_equal(got["validation"]["x"], x[held_out])


# What is refused


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"build": 3}, TypeError, "'int' object is not callable"),
        ({"build": keras.Sequential}, ValueError, "`build.*compiled with an optimizer"),
        ({"cv": 1}, ValueError, "`cv` must be at least 2"),
        ({"cv": []}, ValueError, "at least one fold"),
        ({"cv": 49}, ValueError, "n_splits=49"),
        ({"monitor": "accuracy"}, ValueError, "`monitor` must be one of val_loss, "),
        (
            {"monitor": "val_auc"},
            ValueError,
            "`monitor` must be one of val_loss, .*monitor='val_auc'",
        ),
        ({"monitor": "val_each_class"}, ValueError, "`monitor` must be one of val_loss, "),
        ({"max_lr": -1.0}, ValueError, "max_lr=-1.0"),
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"one_cycle": {"max_lr": 0.1}}, TypeError, "multiple values.*max_lr"),
        ({"one_cycle": {"pct_start": 2}}, ValueError, "pct_start=2"),
        ({"epoch": 3}, TypeError, "unexpected keyword argument 'epoch'"),
        ({"x": [object()]}, TypeError, "must be arrays"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, ValueError, r"arrays of \[3, 4\] samples"),
        ({"x": np.zeros((0, 2)), "y": None}, ValueError, r"arrays of \[0\] samples"),
    ],
)
def test_bad_input_is_refused(arguments: dict, error: type[Exception], message: str) -> None:
    x, y = untrained.data()
    with pytest.raises(error, match=message):
        score(**{"x": x, "y": y, **arguments})
