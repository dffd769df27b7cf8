"""scikit-learn's own grid search: one `OneCycle` for all its folds, or each setting by `cross_val_score`."""

import functools

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import FunctionTransformer

import untrained
from keras_onecycle import OneCycle
from keras_onecycle.search import cross_val_score

# It goes through `fit` and range tests, which have tests on each backend.
pytestmark = pytest.mark.any_backend


GRID = {"model_kwargs": [{"units": 3}, {"units": 8}]}
FOLDS = StratifiedKFold(2, shuffle=True, random_state=0)


def data() -> tuple[np.ndarray, np.ndarray]:
    x, y = make_blobs(90, 4, centers=3, cluster_std=2.0, random_state=0)
    return (x / 10).astype("float32"), y


def build(X: np.ndarray, y: np.ndarray, units: int = 3) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(X.shape[1:]),
            keras.layers.Dense(units, "tanh"),
            keras.layers.Dense(y.shape[1], "softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        "categorical_crossentropy",
        jit_compile=keras.backend.backend() == "jax",
    )
    return model


@functools.cache
def scores_by_hand() -> np.ndarray:
    """Accuracies of each setting on each fold, from plain `fit` with a cycle of its own each."""
    x, y = data()
    scores = []
    for setting in GRID["model_kwargs"]:
        for train, test in FOLDS.split(x, y):
            one_hot = np.eye(3)[y[train]]
            model = build(x[train], one_hot, **setting)
            cycle = OneCycle(0.3)
            model.fit(x[train], one_hot, 8, 2, verbose=0, callbacks=[cycle])
            scores.append(np.mean(model.predict(x[test], verbose=0).argmax(axis=1) == y[test]))
    return np.reshape(scores, (2, 2))


def got(fitted: GridSearchCV) -> np.ndarray:
    return np.stack([fitted.cv_results_[f"split{n}_test_score"] for n in (0, 1)], axis=1)


def test_given_to_fit() -> None:
    x, y = data()
    cycle = OneCycle(0.3)
    search = GridSearchCV(keras.wrappers.SKLearnClassifier(build), GRID, cv=FOLDS)
    fitted = search.fit(x, y, callbacks=[cycle], batch_size=8, epochs=2, verbose=0)
    np.testing.assert_allclose(got(fitted), scores_by_hand())
    # The refit on all data was its last cycle: 12 updates an epoch.
    assert len(cycle.history["momentum"]) == 24
    assert fitted.best_estimator_.model_.optimizer.momentum == 0.9


def test_given_in_the_grid() -> None:
    x, y = data()
    fit_kwargs = {"callbacks": [OneCycle(0.3)], "batch_size": 8, "epochs": 2, "verbose": 0}
    grid = {**GRID, "fit_kwargs": [fit_kwargs]}
    search = GridSearchCV(keras.wrappers.SKLearnClassifier(build), grid, cv=FOLDS, refit=False)
    fitted = search.fit(x, y)
    np.testing.assert_allclose(got(fitted), scores_by_hand())


def test_keras_drops_what_the_constructor_is_given() -> None:
    # The day that this fails, the documentation's warning can go.
    estimator = keras.wrappers.SKLearnClassifier(build, fit_kwargs={"epochs": 3})
    assert clone(estimator).fit_kwargs is None


def test_each_setting_by_cross_val_score() -> None:
    x, y = untrained.data()

    def score(setting: FunctionTransformer, x: np.ndarray, y: np.ndarray) -> float:
        build = functools.partial(untrained.Untrained, [], **setting.kw_args)
        return -cross_val_score(build, x, y, max_lr=0.1).mean()

    rows = np.arange(len(x))
    grid = {"kw_args": [{"value": 0.5}, {"value": 0.25}]}
    search = GridSearchCV(
        FunctionTransformer(), grid, scoring=score, cv=[(rows, rows)], refit=False
    ).fit(x, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], [-0.5, -0.25], atol=1e-5)
    assert search.best_params_ == {"kw_args": {"value": 0.25}}
