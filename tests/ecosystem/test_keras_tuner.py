"""keras-tuner gives each trial a copy of the callbacks, or each setting to `cross_val_score`."""

from pathlib import Path
from typing import Any, ClassVar

import keras
import keras_tuner
import numpy as np
import pytest

import by_hand
import reference
from keras_onecycle import OneCycle
from keras_onecycle.search import cross_val_score

EPOCHS, UPDATES = 2, 12


class Recording(OneCycle):
    """Keeps what each of its copies saw."""

    seen: ClassVar[list[tuple[dict[str, np.ndarray], keras.Model]]] = []

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        self.seen.append((self.history, self.model))


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    Recording.seen.clear()


def build(hp: keras_tuner.HyperParameters) -> keras.Model:
    hp.Int("trial", 0, 2)
    return by_hand.compiled()


def test_each_trial_has_a_cycle_of_its_own(tmp_path: Path) -> None:
    x, y = reference.data(96)
    cycle = Recording(0.05)
    tuner = keras_tuner.GridSearch(build, "loss", directory=tmp_path, executions_per_trial=2)
    tuner.search(x, y, epochs=EPOCHS, callbacks=[cycle], **by_hand.FIT)
    wanted = by_hand.values(UPDATES, 0.05)
    assert len(Recording.seen) == 3 * 2
    for history, model in Recording.seen:
        for name, values in wanted.items():
            np.testing.assert_allclose(history[name], values, rtol=1e-5)
        reference.assert_same_weights(model, by_hand.trained(x, y, EPOCHS, 0.05)[0])
        by_hand.assert_unscheduled(model.optimizer)
    # The copies were trained with, not what was passed.
    assert len(cycle.history["learning_rate"]) == 0


class Tuned(keras_tuner.HyperModel):
    """Tries rates."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        return by_hand.compiled()

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        cycle = Recording(hp.Choice("max_lr", [0.02, 0.05, 0.1]))
        return model.fit(*args, **{**kwargs, "callbacks": [cycle, *kwargs["callbacks"]]})


def test_the_rate_as_a_hyperparameter(tmp_path: Path) -> None:
    x, y = reference.data(96)
    tuner = keras_tuner.GridSearch(Tuned(), "loss", directory=tmp_path)
    tuner.search(x, y, epochs=EPOCHS, **by_hand.FIT)
    peaks = [history["learning_rate"] for history, _ in Recording.seen]
    wanted = [by_hand.values(UPDATES, rate)["learning_rate"] for rate in (0.02, 0.05, 0.1)]
    np.testing.assert_allclose(peaks, wanted, rtol=1e-5)
    last = [trial.metrics.get_history("loss")[0].value[0] for trial in tuner.oracle.trials.values()]
    losses = [by_hand.trained(x, y, EPOCHS, rate)[1] for rate in (0.02, 0.05, 0.1)]
    # The best epoch's mean loss over its batches.
    best = [np.reshape(each, (EPOCHS, -1)).mean(axis=1).min() for each in losses]
    np.testing.assert_allclose(last, best, rtol=1e-4)


def test_hyperband_spreads_a_new_cycle_over_the_epochs_of_each_round(tmp_path: Path) -> None:
    x, y = reference.data(96)

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        hp.Float("trial", 0.0, 1.0)
        return by_hand.compiled()

    tuner = keras_tuner.Hyperband(build, "loss", max_epochs=2, factor=2, directory=tmp_path, seed=0)
    tuner.search(x, y, callbacks=[Recording(0.05)], **by_hand.FIT)
    trials = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    rounds = [(trial["tuner/initial_epoch"], trial["tuner/epochs"]) for trial in trials]
    assert set(rounds) == {(0, 1), (1, 2), (0, 2)}
    for (history, _), (first, end) in zip(Recording.seen, rounds, strict=True):
        wanted = by_hand.values(6 * (end - first), 0.05)
        np.testing.assert_allclose(history["learning_rate"], wanted["learning_rate"], rtol=1e-5)


def test_each_setting_is_judged_on_folds(tmp_path: Path) -> None:
    x, y = reference.data(96)
    judged: dict[float, float] = {}

    class Tuner(keras_tuner.GridSearch):
        def run_trial(self, trial: Any, x: np.ndarray, y: np.ndarray) -> float:
            rate = trial.hyperparameters.Choice("max_lr", [0.001, 0.05])
            values = cross_val_score(by_hand.compiled, x, y, cv=2, epochs=EPOCHS, max_lr=rate)
            judged[rate] = values.mean()
            return judged[rate]

    tuner = Tuner(directory=tmp_path)
    tuner.search(x, y)
    assert set(judged) == {0.001, 0.05}
    assert judged[0.05] < judged[0.001]
    assert tuner.get_best_hyperparameters()[0].get("max_lr") == 0.05
    scores = [trial.score for trial in tuner.oracle.get_best_trials(2)]
    assert scores == [judged[0.05], judged[0.001]]
