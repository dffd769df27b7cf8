"""scikeras makes the callbacks of each fit where it is given the class."""

from typing import Any

import numpy as np
from scikeras.wrappers import KerasRegressor
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

import by_hand
import reference
from keras_onecycle import OneCycle

EPOCHS = 2


FOLDS = KFold(2)
MSE = "neg_mean_squared_error"


def regressor(**arguments: Any) -> KerasRegressor:
    return KerasRegressor(by_hand.compiled, epochs=EPOCHS, **by_hand.FIT, **arguments)


def scores_by_hand(*rates: float) -> list[list[float]]:
    x, y = reference.data(96)
    return [
        [
            -np.mean(
                (
                    reference.forward(by_hand.trained(x[train], y[train], EPOCHS, rate)[0], x[test])
                    - y[test]
                )
                ** 2
            )
            for train, test in FOLDS.split(x)
        ]
        for rate in rates
    ]


def test_the_rate_in_a_grid_search() -> None:
    x, y = reference.data(96)
    estimator = regressor(fit__callbacks=OneCycle, fit__callbacks__max_lr=0.02)
    grid = {"fit__callbacks__max_lr": [0.02, 0.1]}
    search = GridSearchCV(estimator, grid, cv=FOLDS, scoring=MSE).fit(x, y)
    got = np.stack([search.cv_results_[f"split{n}_test_score"] for n in (0, 1)], axis=1)
    np.testing.assert_allclose(got, scores_by_hand(0.02, 0.1), rtol=1e-4)
    best = search.best_estimator_.model_
    by_hand.assert_unscheduled(best.optimizer)
    rate = search.best_params_["fit__callbacks__max_lr"]
    reference.assert_same_weights(best, by_hand.trained(x, y, EPOCHS, rate)[0])


def test_an_object_is_copied_for_each_fit() -> None:
    x, y = reference.data(96)
    cycle = OneCycle(0.05)
    got = cross_val_score(regressor(callbacks=[cycle]), x, y, cv=FOLDS, scoring=MSE)
    np.testing.assert_allclose([got], scores_by_hand(0.05), rtol=1e-4)
    assert len(cycle.history["learning_rate"]) == 0
