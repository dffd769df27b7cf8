"""What is copied of a model before a range test, and put back after it."""

import dataclasses
from collections import UserList, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

import reference
from keras_onecycle import OneCycle, lr_find
from keras_onecycle._keras import backend
from keras_onecycle._keras.snapshot import Snapshot


def trained() -> keras.Model:
    model = reference.build()
    model.compile(keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    fit(model)
    return model


def fit(model: keras.Model) -> None:
    x, y = reference.data(32)
    model.fit(x, y, batch_size=4, verbose=0)


def state(model: keras.Model) -> list[np.ndarray]:
    return [
        np.array(keras.ops.convert_to_numpy(v))
        for v in (*model.variables, *model.optimizer.variables)
    ]


# So few bytes that even these variables are written piece by piece.
@pytest.mark.parametrize("piece", [2**24, 24])
def test_restored_bit_for_bit_more_than_once(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_PIECE", piece)
    model = trained()
    before = state(model)
    snapshot = Snapshot(model)
    for _ in range(2):
        # The second time, the model must not have trained in the memory of the snapshot.
        fit(model)
        assert any((a != b).any() for a, b in zip(before, state(model), strict=True))
        snapshot.restore()
        for got, wanted in zip(state(model), before, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_holds_copies_of_its_own() -> None:
    kernel = trained().trainable_variables[0]
    first, second = backend.read(kernel)[0], backend.read(kernel)[0]
    assert not np.shares_memory(first, second)
    assert first.flags.owndata


# What is not built


def frozen(optimizer: keras.Optimizer) -> keras.Model:
    model = reference.build()
    model.layers[0].trainable = False
    model.compile(optimizer, loss="mse", metrics=["mae"])
    return model


def both() -> keras.Optimizer:
    parts = keras.optimizers.SGD(0.01, momentum=0.9), keras.optimizers.Adam(0.01)
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(parts[0], {".*bias": parts[1]})
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True),
        lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Nadam(0.01), initial_scale=1.0
        ),
        both,
    ],
)
def test_a_range_test_leaves_what_is_not_built(make: Callable[[], keras.Optimizer]) -> None:
    x, y = reference.data(64)
    trained = []
    for with_test in (False, True):
        model = frozen(make())
        keras.utils.set_random_seed(3)
        kept = {name: type(value) for name, value in vars(model.optimizer).items()}
        if with_test:
            lr_find(model, x, y, batch_size=8, num_steps=10, max_lr=0.1, cycle_steps=10, verbose=0)
        assert not model.optimizer.built
        assert {name: type(value) for name, value in vars(model.optimizer).items()} == kept
        model.layers[0].trainable = True
        # It shuffles, in the same order as without a test.
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[OneCycle(0.02)])
        trained.append([*model.get_weights(), *state(model)])
    for got, wanted in zip(*trained, strict=True):
        np.testing.assert_array_equal(got, wanted)


on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="the others build the optimizer before a callback",
)


@on_tensorflow
@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin"])
def test_a_callback_unfreezes_layers_before_the_first_step(hook: str) -> None:
    def unfreeze(*arguments: Any) -> None:
        model.layers[0].trainable = True

    model = frozen(keras.optimizers.SGD(0.01, momentum=0.9))
    first = model.get_weights()[0]
    later = keras.callbacks.LambdaCallback(**{hook: unfreeze})
    model.fit(*reference.data(32), batch_size=4, verbose=0, callbacks=[OneCycle(0.1), later])
    assert (model.get_weights()[0] != first).any()


@on_tensorflow
def test_a_train_step_trains_a_variable_of_its_own() -> None:
    import tensorflow as tf

    class WithTemperature(keras.Sequential):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x) - y) ** 2) * self.temperature.value
            variables = [*self.trainable_variables, self.temperature]
            gradients = tape.gradient(loss, [v.value for v in variables])
            self.optimizer.apply(gradients, variables)
            return {"loss": loss}

    model = WithTemperature([keras.Input((4,)), *reference.build().layers])
    # In a list that Keras does not look into.
    model.hidden = lambda: None
    model.hidden.variables = [keras.Variable(1.0, name="temperature")]
    WithTemperature.temperature = property(lambda self: self.hidden.variables[0])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    assert all(v is not model.temperature for v in model.trainable_variables)
    model.fit(*reference.data(32), batch_size=4, verbose=0, callbacks=[OneCycle(0.1)])
    assert float(model.temperature.value) < 1


# Where variables are


@dataclasses.dataclass
class Holder:
    variables: Any


@dataclasses.dataclass(slots=True)
class Slots:
    variables: Any


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="there such a variable is a constant")
@pytest.mark.parametrize(
    "hold",
    [
        Holder,
        Slots,
        lambda v: SimpleNamespace(variable=v),
        lambda v: UserList([v]),
        lambda v: Holder([{"a": deque([Holder(v)])}]),
    ],
)
def test_variables_in_objects_of_a_layer_are_put_back(hold: Callable[[Any], Any]) -> None:
    class Counts(keras.layers.Layer):
        def __init__(self, variable: Any) -> None:
            super().__init__()
            self.held = hold(variable)
            self.count = variable.assign_add

        def call(self, x: Any, training: bool = False) -> Any:
            if training:
                self.count(1.0)
            return x

    variable = keras.Variable(5.0)
    model = reference.build(Counts(variable))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    lr_find(model, *reference.data(32), batch_size=4, num_steps=5, cycle_steps=10, verbose=0)
    assert float(variable.value) == 5


@pytest.mark.parametrize("built", [True, False])
def test_what_building_changes_on_pytorch_is_put_back(built: bool) -> None:
    if keras.backend.backend() != "torch":
        pytest.skip("building runs no layer on another backend")
    import torch

    class Counts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 1)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Any) -> Any:
            self.calls.add_(1)
            return self.linear(x)

    counts = Counts()
    layer = keras.layers.TorchModuleWrapper(counts, output_shape=(None, 1))
    model = keras.Sequential([keras.Input((4,)), layer] if built else [layer])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    before = float(counts.calls)
    lr_find(model, *reference.data(32), batch_size=4, num_steps=5, cycle_steps=10, verbose=0)
    assert float(counts.calls) == before


def test_what_the_backend_holds_in_its_own_objects_is_put_back() -> None:
    layer: Any
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        class Noise(keras.layers.Layer):
            generator = None

            def call(self, x: Any, training: bool = False) -> Any:
                return x + self.generator.normal(tf.shape(x)) if training else x

        layer = Noise()
        layer.generator = tf.random.Generator.from_seed(1)
        held = [layer.generator.state]
    elif keras.backend.backend() == "torch":
        import torch

        layer = keras.layers.TorchModuleWrapper(torch.nn.BatchNorm1d(6), output_shape=(None, 6))
        held = [*layer.module.buffers()]
    else:
        pytest.skip("JAX has no such objects")
    model = reference.build(layer)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    before = [np.array(value) for value in held]
    lr_find(model, *reference.data(32), batch_size=4, num_steps=5, cycle_steps=10, verbose=0)
    for got, wanted in zip(held, before, strict=True):
        np.testing.assert_array_equal(np.array(got), wanted)
