"""What the package takes for granted of Keras: each test fails the day Keras changes it."""

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import reference
from keras_onecycle import OneCycle
from keras_onecycle._keras import running_fit


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback) -> keras.Model:
    x, y = reference.data(64)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model


def compiled(optimizer: keras.Optimizer | None = None) -> keras.Model:
    model = reference.build()
    model.compile(optimizer or keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    return model


def test_setting_momentum_by_hand_changes_nothing() -> None:
    # The reason for this package. Should Keras make it work, the README is to be changed.
    class ByHand(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
            if batch > 0:
                self.model.optimizer.momentum = 0.5

    by_hand = fit(compiled(), ByHand())
    assert by_hand.optimizer.momentum == 0.5
    plain = fit(compiled())
    for got, wanted in zip(by_hand.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    for got, other in zip(
        plain.get_weights(), fit(compiled(), OneCycle(0.01)).get_weights(), strict=True
    ):
        assert np.abs(got - other).max() > 1e-4


@pytest.mark.parametrize("accumulation", [None, 3])
def test_an_optimizers_first_variable_counts_batches(accumulation: int | None) -> None:
    optimizer = keras.optimizers.Adam(0.01, gradient_accumulation_steps=accumulation)
    fit(compiled(optimizer))
    assert optimizer.variables[0].name == "iteration"
    assert int(np.array(optimizer.variables[0].value)) == 8
    updates = keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(optimizer.iterations))
    assert int(updates) == 8 // (accumulation or 1)


def test_fit_makes_its_function_before_it_calls_callbacks() -> None:
    # So the next `fit` finds schedules that one before it could not take off.
    calls: list[str] = []

    class Model(keras.Sequential):
        def make_train_function(self, force: bool = False) -> object:
            calls.append("make_train_function")
            return super().make_train_function(force=force)

    model = Model([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    begin = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: calls.append("begin"))
    fit(model, begin)
    assert calls[:2] == ["make_train_function", "begin"]


def test_the_loss_in_the_logs_is_a_mean_since_the_last_reset() -> None:
    losses: list[float] = []

    class Reset(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
            self.model.reset_metrics()

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            losses.append(float(logs["loss"]))

    model = compiled(keras.optimizers.SGD(0.0, momentum=0.9))
    fit(model, Reset())
    wanted = [
        np.mean((keras.ops.convert_to_numpy(model(x)) - y) ** 2)
        for x, y in reference.split(*reference.data(64), 8)
    ]
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_the_train_function_takes_and_returns_state_on_jax() -> None:
    if keras.backend.backend() != "jax":
        pytest.skip("on TensorFlow the step assigns the variables itself")
    seen: list[tuple] = []
    model = compiled(keras.optimizers.Adam(0.01))

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict | None = None) -> None:
            function = self.model.train_function

            def step(state: tuple, iterator: object) -> tuple:
                result = function(state, iterator)
                seen.append(result)
                return result

            self.model.train_function = step

    fit(model, Watch())
    assert len(seen) == 8
    logs, state = seen[-1]
    assert set(logs) == {"loss"}
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    assert len(state) == len(groups)
    for values, variables in zip(state, groups, strict=True):
        assert len(values) == len(variables)
        for value, variable in zip(values, variables, strict=True):
            np.testing.assert_array_equal(np.array(value), np.array(variable.value))


def test_fit_calls_the_train_function_that_a_callback_puts_in_place() -> None:
    calls: list[int] = []

    class Wrap(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict | None = None) -> None:
            function = self.model.train_function
            self.model.train_function = lambda *args: (calls.append(1), function(*args))[1]

    fit(compiled(), Wrap())
    assert len(calls) == 8


def test_a_callback_keeps_its_model_in_one_attribute() -> None:
    callback, model = keras.callbacks.Callback(), compiled()
    assert vars(callback).get("_model", "absent") is None
    callback.set_model(model)
    assert [name for name, value in vars(callback).items() if value is model] == ["_model"]
    callback._model = None
    assert callback.model is None


@pytest.mark.any_backend
def test_an_optimizer_is_pickled_by_a_method_of_its_class() -> None:
    optimizer = keras.optimizers.SGD(0.02, momentum=0.8)
    function, arguments = optimizer.__reduce__()
    assert function == type(optimizer)._unpickle_model
    rebuilt = getattr(keras.optimizers.SGD, function.__name__)(*arguments)
    assert type(rebuilt) is type(keras.optimizers.SGD())
    assert rebuilt.momentum == 0.8


def test_the_class_of_an_optimizer_can_be_swapped(tmp_path: Path) -> None:
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    members = {
        "__module__": keras.optimizers.SGD.__module__,
        "__class__": property(lambda self: keras.optimizers.SGD),
        "momentum": property(lambda self: 0.5, lambda self, value: None),
    }
    derived = type("SGD", (keras.optimizers.SGD,), members)
    model = fit(compiled(optimizer))
    object.__dict__["__class__"].__set__(optimizer, derived)
    assert type(optimizer) is derived
    assert optimizer.__class__ is type(keras.optimizers.SGD())
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert optimizer.momentum == optimizer.get_config()["momentum"] == 0.5
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert type(loaded) is type(keras.optimizers.SGD())
    assert loaded.momentum == 0.5
    object.__dict__["__class__"].__set__(optimizer, keras.optimizers.SGD)
    # The float of the object's own was there all the time.
    assert optimizer.momentum == 0.9


def test_tensorboard_has_learning_rate_and_momentum(tmp_path: Path) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras's TensorBoard callback needs TensorFlow")
    import tensorflow as tf

    fit(compiled(), OneCycle(0.03), keras.callbacks.TensorBoard(str(tmp_path)))
    tags = {
        value.tag
        for file in (tmp_path / "train").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert {"epoch_learning_rate", "epoch_momentum"} <= tags


def test_a_backups_epoch_is_an_attribute_of_the_model(tmp_path: Path) -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            raise KeyboardInterrupt

    assert compiled()._initial_epoch in (None, 0)
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), keras.callbacks.BackupAndRestore(tmp_path), Stop())
    model = compiled()
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    backup.set_model(model)
    backup.on_train_begin()
    assert model._initial_epoch == 1


def test_fit_calls_callbacks_from_a_list_that_takes_another_at_its_end() -> None:
    seen: list[Any] = []

    class Look(keras.callbacks.Callback):
        def set_model(self, model: keras.Model) -> None:
            seen.append("set_model")

        def on_train_begin(self, logs: dict | None = None) -> None:
            seen.append("on_train_begin")
            frame = sys._getframe(1)
            assert frame.f_code in running_fit._CALLS
            callbacks = frame.f_locals["self"]
            assert isinstance(callbacks, keras.callbacks.CallbackList)
            assert frame.f_back.f_code is running_fit._FIT
            last = keras.callbacks.LambdaCallback(on_train_end=lambda logs: seen.append("last"))
            callbacks.callbacks.append(last)

        def on_train_end(self, logs: dict | None = None) -> None:
            seen.append("on_train_end")

    fit(compiled(), Look())
    assert seen == ["set_model", "on_train_begin", "on_train_end", "last"]


def test_a_dataset_of_unknown_length_counts_an_update_too_many() -> None:
    # What `backend.after_data` is for. Should Keras mend it, that can go.
    if keras.backend.backend() != "tensorflow":
        pytest.skip("on TensorFlow a dataset ends inside a step")
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(reference.data(40)).batch(4)
    model = compiled()
    model.fit(dataset.filter(lambda x, y: True), epochs=3, verbose=0)
    assert int(model.optimizer.iterations) > 30


def test_keras_counts_the_samples_of_its_loss() -> None:
    model = compiled()
    fit(model)
    (loss,) = (metric for metric in model.metrics if metric.name == "loss")
    assert isinstance(loss, keras.metrics.Mean)
    assert float(keras.ops.convert_to_numpy(loss.count)) == 64
