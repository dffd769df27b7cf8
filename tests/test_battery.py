"""The battery of the benchmark of suggestions: its trainings are those of `OneCycle` in `fit`."""

from typing import Any

import keras
import numpy as np
import pytest

from evidence.benchmarks.measuring.battery import FIND, JUDGE, LOSSES, TASKS, Case
from keras_onecycle import OneCycle, lr_find

OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(momentum=0.9),
    "Adam": keras.optimizers.Adam,
    "AdamW": keras.optimizers.AdamW,
}


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the battery is in JAX")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_is_that_of_one_cycle_in_fit(optimizer: str) -> None:
    from evidence.benchmarks.measuring.fast_training import FastTraining

    training = FastTraining(Case("breast cancer", optimizer, 16, 40), seed=0)
    got = training.cycle(0.01)
    model = training.model
    model.compile(OPTIMIZERS[optimizer](), LOSSES["classes"]())
    rows = training.batches[:40].ravel()
    x, y = (np.asarray(part)[rows] for part in (training.x, training.y))
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0, callbacks=[OneCycle(0.01)])
    wanted = model.evaluate(training.val_x, training.val_y, batch_size=1000, verbose=0)
    assert got["val_loss"] == pytest.approx(wanted, rel=1e-4)


class Batches(keras.utils.PyDataset):
    def __init__(self, training: Any) -> None:
        super().__init__()
        self.training = training

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.training.batches[index]
        return np.asarray(self.training.x)[rows], np.asarray(self.training.y)[rows]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the battery is in JAX")
def test_its_suggestion_is_that_of_lr_find() -> None:
    from evidence.benchmarks.measuring.fast_training import FastTraining

    training = FastTraining(Case("breast cancer", "SGD", 16, 40), seed=0)
    got = training.lr_find()
    model = training.model
    model.compile(OPTIMIZERS["SGD"](), LOSSES["classes"]())
    wanted = lr_find(model, Batches(training), shuffle=False, verbose=0)
    assert len(got.loss) == len(wanted.loss)
    np.testing.assert_allclose(got.loss[:50], wanted.loss[:50], rtol=1e-3)
    np.testing.assert_allclose(got.cycle_lr, wanted.cycle_lr, rtol=1e-3)
    np.testing.assert_allclose(got.cycle_loss, wanted.cycle_loss, rtol=2e-2)
    assert got.suggest() == pytest.approx(wanted.suggest(), rel=1e-3)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the battery is in JAX")
def test_a_schedule_free_training_is_that_of_keras() -> None:
    from evidence.benchmarks.measuring.fast_training import FastTraining

    training = FastTraining(Case("breast cancer", "AdamW", 16, 40), seed=0)
    got = training.schedule_free()
    model = training.model
    model.compile(keras.optimizers.ScheduleFreeAdamW(), LOSSES["classes"]())
    rows = training.batches[:40].ravel()
    x, y = (np.asarray(part)[rows] for part in (training.x, training.y))
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    wanted = model.evaluate(training.val_x, training.val_y, batch_size=1000, verbose=0)
    assert got["val_loss"] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.any_backend
def test_no_task_is_in_both_halves_and_none_is_in_neither() -> None:
    find, judge = ({case.task for case in half} for half in (FIND, JUDGE))
    assert not find & judge
    assert find | judge == TASKS.keys()
    assert len(TASKS) >= 12


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["CIFAR-10, ResNet-8", "MNIST, Vision Transformer", "ratings"])
def test_networks_are_made(name: str) -> None:
    assert TASKS[name].network().built
