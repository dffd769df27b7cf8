"""Where in the cycle a `fit` begins: resumed, numbered on, cut short, or with a part of an update pending."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import reference
from keras_onecycle import OneCycle

X, Y = reference.data(64)


def compiled(optimizer: keras.Optimizer | None = None) -> keras.Model:
    model = reference.build()
    model.compile(optimizer or keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, **arguments: Any) -> Any:
    arguments = {"batch_size": 16, "epochs": 4, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(X, Y, callbacks=list(callbacks), **arguments)


def rates(total: int, steps: range) -> np.ndarray:
    return np.array([reference.one_cycle(step, total, max_lr=0.1)[0] for step in steps])


def stop_after(epoch: int) -> keras.callbacks.Callback:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, number: int, logs: dict | None = None) -> None:
            if number == epoch:
                raise KeyboardInterrupt

    return Stop()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_resumed_with_half_the_batch(accumulation: int) -> None:
    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, OneCycle(0.1), stop_after(1))
    cycle = OneCycle(0.1, start_epoch=0)
    model.optimizer.gradient_accumulation_steps = None
    if accumulation > 1:
        weights = model.get_weights()
        used = int(model.optimizer.iterations)
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9, gradient_accumulation_steps=2)
        model = compiled(optimizer)
        model.set_weights(weights)
        optimizer.build(model.trainable_variables)
        optimizer.variables[0].assign(used)
    fit(model, cycle, batch_size=8, initial_epoch=2)
    # Half of the cycle is left, whatever made the first half.
    total = 32 // accumulation
    np.testing.assert_allclose(
        cycle.history["learning_rate"], rates(total, range(total // 2, total)), rtol=1e-5
    )


@pytest.mark.any_backend
def test_no_epochs_at_all() -> None:
    fit(compiled(), cycle := OneCycle(0.1), epochs=0)
    assert cycle.history["learning_rate"].shape == (0,)


@pytest.mark.any_backend
def test_a_guess_is_told_and_start_epoch_settles_it() -> None:
    model = compiled()
    fit(model, OneCycle(0.1), epochs=2)
    with pytest.warns(UserWarning, match=r"step 8 of 16.*`start_epoch=0`.*`start_epoch=2`"):
        fit(model, cycle := OneCycle(0.1), initial_epoch=2)
    np.testing.assert_allclose(cycle.history["learning_rate"], rates(16, range(8, 16)), rtol=1e-5)
    fit(model, cycle := OneCycle(0.1, start_epoch=2), initial_epoch=2)
    np.testing.assert_allclose(cycle.history["learning_rate"], rates(8, range(8)), rtol=1e-5)
    fit(model, cycle := OneCycle(0.1, start_epoch=1), initial_epoch=2)
    np.testing.assert_allclose(cycle.history["learning_rate"], rates(12, range(4, 12)), rtol=1e-5)
    with pytest.raises(ValueError, match=r"at most the epoch.*2.*start_epoch=3"):
        fit(model, OneCycle(0.1, start_epoch=3), initial_epoch=2)


@pytest.mark.any_backend
def test_numbering_epochs_on_after_compiling_anew_is_a_whole_cycle(
    recwarn: pytest.WarningsRecorder,
) -> None:
    model = compiled()
    history = fit(model, OneCycle(0.1), epochs=2)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    fit(model, cycle := OneCycle(0.1), epochs=5, initial_epoch=history.epoch[-1] + 1)
    np.testing.assert_allclose(cycle.history["learning_rate"], rates(12, range(12)), rtol=1e-5)
    assert not [w for w in recwarn if "OneCycle" in str(w.message)]


@pytest.mark.parametrize("first", [True, False])
def test_a_restored_backup_is_resumed_without_a_guess(
    tmp_path: Path, first: bool, recwarn: pytest.WarningsRecorder
) -> None:
    def callbacks(cycle: OneCycle) -> list[keras.callbacks.Callback]:
        pair = [cycle, keras.callbacks.BackupAndRestore(tmp_path)]
        return pair if first else pair[::-1]

    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), *callbacks(OneCycle(0.1)), stop_after(1))
    model, cycle = compiled(), OneCycle(0.1)
    fit(model, *callbacks(cycle))
    unbroken = compiled()
    fit(unbroken, OneCycle(0.1))
    reference.assert_same_weights(model, unbroken)
    assert not [w for w in recwarn if "OneCycle" in str(w.message)]


@pytest.mark.any_backend
def test_a_backup_cut_off_by_a_kill_falls_back_to_the_one_before(tmp_path: Path) -> None:
    def backup() -> keras.callbacks.Callback:
        return keras.callbacks.BackupAndRestore(tmp_path, double_checkpoint=True)

    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), OneCycle(0.1), backup(), stop_after(2))
    weights = tmp_path / "latest.weights.h5"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    fit(model := compiled(), cycle := OneCycle(0.1), backup())
    left = len(cycle.history["learning_rate"])
    assert left in (4, 8)  # Keras has kept the end of one of the epochs before.
    np.testing.assert_allclose(
        cycle.history["learning_rate"], rates(16, range(16 - left, 16)), rtol=1e-5
    )
    unbroken = compiled()
    fit(unbroken, OneCycle(0.1))
    reference.assert_same_weights(model, unbroken)


@pytest.mark.any_backend
@pytest.mark.parametrize(("save_freq", "accumulation"), [(10, None), (4, None), (5, 3)])
def test_a_backup_inside_an_epoch_begins_that_epoch_again(
    tmp_path: Path, save_freq: int, accumulation: int | None, recwarn: pytest.WarningsRecorder
) -> None:
    def model() -> keras.Model:
        momentum = {"momentum": 0.9, "gradient_accumulation_steps": accumulation}
        return compiled(keras.optimizers.SGD(0.01, **momentum))

    class Stop(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict | None = None) -> None:
            self.batches = 0

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            self.batches += 1
            if self.batches == 11:
                raise KeyboardInterrupt

    # 4 batches an epoch: a backup after the eighth, at the end of the second, or after the tenth.
    backup = [keras.callbacks.BackupAndRestore(tmp_path, save_freq=save_freq) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        fit(model(), OneCycle(0.1), backup[0], Stop())
    cycle = OneCycle(0.1)
    fit(model(), cycle, backup[1])
    per_update = accumulation or 1
    epoch = 1 if save_freq == 4 else 2
    total = 16 // per_update
    steps = range(4 * epoch // per_update, total)
    recorded = cycle.history["learning_rate"][: len(steps)]
    np.testing.assert_allclose(recorded, rates(total, steps), rtol=1e-5)
    # Of a whole epoch that is trained again, nobody would know otherwise.
    told = ["trained again" in str(w.message) for w in recwarn if "OneCycle" in str(w.message)]
    assert told == ([True] if save_freq == 4 else [])


@pytest.mark.any_backend
def test_a_kill_between_the_two_files_of_a_backup_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backup() -> keras.callbacks.Callback:
        return keras.callbacks.BackupAndRestore(tmp_path, double_checkpoint=True)

    model, saved = compiled(), []
    save_weights = model.save_weights

    def save(*arguments: Any, **options: Any) -> None:
        save_weights(*arguments, **options)
        saved.append(arguments)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(model, "save_weights", save)
    with pytest.raises(KeyboardInterrupt):
        fit(model, OneCycle(0.1), backup())
    with pytest.warns(UserWarning, match=r"the end of epoch 2, which is trained again.*`OneCycle`"):
        fit(model := compiled(), cycle := OneCycle(0.1), backup())
    np.testing.assert_allclose(cycle.history["learning_rate"], rates(16, range(4, 16)), rtol=1e-5)
    assert int(model.optimizer.iterations) == 20


@pytest.mark.any_backend
def test_a_backup_of_a_cycle_that_began_later_is_told(tmp_path: Path) -> None:
    # Two epochs of another training, then a cycle of four, killed after two: 8 updates at epoch 4.
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), OneCycle(0.1), backup, stop_after(3), epochs=6, initial_epoch=2)
    with pytest.warns(UserWarning, match="as in a training that started at epoch 0"):
        fit(compiled(), OneCycle(0.1), keras.callbacks.BackupAndRestore(tmp_path), epochs=6)


# Over, cut short, pending


@pytest.mark.any_backend
def test_a_cycle_that_is_over_is_told() -> None:
    model = compiled()
    fit(model, OneCycle(0.1))
    with pytest.warns(UserWarning, match=r"All 8 steps .* are done"):
        fit(model, OneCycle(0.1, total_steps=8, start_epoch=0), epochs=5, initial_epoch=4)


@pytest.mark.any_backend
def test_a_cycle_that_each_fit_begins_anew_is_told_and_attach_is_exact() -> None:
    with pytest.warns(UserWarning, match=r"4 updates, up to step 4 of 16.*cycle\.attach\(model\)"):
        fit(compiled(), OneCycle(0.1, total_steps=16), epochs=1)
    model, unbroken = compiled(), compiled()
    with OneCycle(0.1, total_steps=16).attach(model) as cycle:
        for _ in range(4):
            fit(model, epochs=1)
    fit(unbroken, OneCycle(0.1))
    reference.assert_same_weights(model, unbroken)
    np.testing.assert_allclose(cycle.history["learning_rate"], rates(16, range(16)), rtol=1e-5)


def accumulating(steps: int) -> keras.Optimizer:
    return keras.optimizers.SGD(0.01, momentum=0.9, gradient_accumulation_steps=steps)


def test_a_pending_part_of_an_update_counts() -> None:
    model = compiled(accumulating(3))
    fit(model, epochs=1)  # 4 batches: 1 update, and 1 batch of the next.
    fit(model, cycle := OneCycle(0.1), epochs=2)  # 8 more: 3 updates.
    np.testing.assert_allclose(cycle.history["learning_rate"], rates(3, range(3)), rtol=1e-5)


@pytest.mark.any_backend
def test_a_fit_without_an_update_is_told() -> None:
    with pytest.warns(UserWarning, match=r"no update: an update takes 9 batches.*`fit` has 8"):
        fit(compiled(accumulating(9)), cycle := OneCycle(0.1), epochs=2)
    assert not cycle.history["learning_rate"].size
