"""Optuna's pruning callback ends `fit` by an exception, after which Keras calls no callback."""

import numpy as np
import optuna
from optuna_integration import KerasPruningCallback

import by_hand
import reference
from keras_onecycle import OneCycle

UPDATES = 12


class AfterEpoch(optuna.pruners.BasePruner):
    """Prunes every trial after its first epoch."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.last_step == 0


def pruned(objective: optuna.study.study.ObjectiveFuncType) -> None:
    study = optuna.create_study(pruner=AfterEpoch())
    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "PRUNED"]


def test_a_pruned_trial_leaves_the_optimizer_unscheduled() -> None:
    x, y = reference.data(96)
    model = by_hand.compiled()

    def objective(trial: optuna.Trial) -> float:
        with OneCycle(trial.suggest_float("max_lr", 0.05, 0.05)) as cycle:
            model.fit(
                x,
                y,
                epochs=2,
                callbacks=[cycle, KerasPruningCallback(trial, "loss")],
                **by_hand.FIT,
            )
        return 0.0

    pruned(objective)
    by_hand.assert_unscheduled(model.optimizer)


def test_without_with_the_next_fit_takes_the_schedule_off() -> None:
    x, y = reference.data(96)
    model = by_hand.compiled()
    start = model.get_weights()
    cycles = []

    def objective(trial: optuna.Trial) -> float:
        cycles.append(OneCycle(0.05))
        callbacks = [cycles[-1], KerasPruningCallback(trial, "loss")]
        model.fit(x, y, epochs=2, callbacks=callbacks, **by_hand.FIT)
        return 0.0

    pruned(objective)
    # The second trial had a whole cycle before it, and began one.
    wanted = by_hand.values(UPDATES, 0.05)
    for cycle in cycles:
        for name, values in wanted.items():
            np.testing.assert_allclose(cycle.history[name], values[:6], rtol=1e-5)
    model.set_weights(start)
    for variable in model.optimizer.variables:
        if len(variable.shape):
            variable.assign(np.zeros(variable.shape))
    model.fit(x, y, **by_hand.FIT)
    by_hand.assert_unscheduled(model.optimizer)
    reference.assert_same_weights(model, by_hand.trained(x, y, 1, None)[0])


def test_a_trial_that_is_not_pruned_is_one_cycle() -> None:
    x, y = reference.data(96)
    models = []

    def objective(trial: optuna.Trial) -> float:
        models.append(by_hand.compiled())
        with OneCycle(0.05) as cycle:
            callbacks = [cycle, KerasPruningCallback(trial, "loss")]
            fitted = models[-1].fit(x, y, epochs=2, callbacks=callbacks, **by_hand.FIT)
        return fitted.history["loss"][-1]

    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    study.optimize(objective, n_trials=2)
    assert all(trial.state.name == "COMPLETE" for trial in study.trials)
    for model in models:
        reference.assert_same_weights(model, by_hand.trained(x, y, 2, 0.05)[0])
