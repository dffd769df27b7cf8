"""What the package takes for granted of Keras: each test fails the day Keras changes it."""

from pathlib import Path

import keras
import numpy as np
import pytest

import reference
from keras_onecycle import OneCycle


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
        np.mean((np.array(model(x)) - y) ** 2) for x, y in reference.split(*reference.data(64), 8)
    ]
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_a_layer_inside_a_layer_is_seen_before_it_has_variables() -> None:
    class Outer(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = keras.layers.Dense(1)

        def build(self, input_shape: tuple) -> None:
            self.built = True

        def call(self, x: object) -> object:
            return self.inner(x)

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.outer = Outer()

        def build(self, input_shape: tuple) -> None:
            self.outer.build(input_shape)
            self.built = True

        def call(self, x: object) -> object:
            return self.outer(x)

    model = Model()
    model.build((None, 4))
    assert model.built
    assert model.outer.inner in model._flatten_layers()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    # An optimizer built too early would not know the variables.
    fit(model, OneCycle(0.01))
    assert len(model.optimizer.variables) == 4


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
