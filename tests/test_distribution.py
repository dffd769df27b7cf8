"""Several devices end where one does: two logical CPU devices against an eager optimizer on one."""

import functools
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import reference
from keras_onecycle import OneCycle, lr_find

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)
on_jax = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="keras.distribution is for the JAX backend"
)

OPTIMIZERS: dict[str, tuple[str, Callable[[], keras.Optimizer]]] = {
    "SGD": ("momentum", lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)),
    "Nadam": ("beta_1", lambda: keras.optimizers.Nadam(0.01, weight_decay=0.1)),
    "SGD ema": ("momentum", lambda: keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True)),
}


def expected(name: str, batches: list, updates: int) -> keras.Model:
    attribute, make = OPTIMIZERS[name]

    def set_floats(optimizer: keras.Optimizer, update: int) -> None:
        optimizer.learning_rate, momentum = reference.one_cycle(update, updates, max_lr=0.02)
        setattr(optimizer, attribute, momentum)

    model = reference.build()
    reference.train_eagerly(model, make(), batches, set_floats)
    return model


@functools.cache
def two_replicas() -> Any:
    # One for all tests: the collective operations of two strategies in one process are mixed up.
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    return strategy


def mirrored(make: Callable[[], keras.Optimizer], *layers: keras.layers.Layer) -> keras.Model:
    with two_replicas().scope():
        model = reference.build(*layers)
        model.compile(make(), loss="mse", jit_compile=False)
    return model


@on_tensorflow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_mirrored_strategy(name: str) -> None:
    x, y = reference.data(96)
    make = OPTIMIZERS[name][1]
    wrap = keras.optimizers.LossScaleOptimizer if name == "SGD ema" else lambda optimizer: optimizer
    model = mirrored(lambda: wrap(make()))
    if name == "SGD":
        # It leaves no trace on any replica.
        lr_find(model, x, y, batch_size=8, num_steps=20, cycle_steps=10, verbose=0)
    cycle = OneCycle(0.02)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[cycle])
    assert len(cycle.history["momentum"]) == 12
    reference.assert_same_weights(model, expected(name, reference.split(x, y, 8), 12))


@on_tensorflow
def test_range_test_puts_back_statistics_that_differ_between_replicas() -> None:
    x, y = reference.data(96)
    with two_replicas().scope():
        normalization = keras.layers.BatchNormalization()
    model = mirrored(OPTIMIZERS["SGD"][1], normalization)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)

    def copies() -> list[np.ndarray]:
        return [
            np.array(part)
            for variable in model.variables + model.optimizer.variables
            for part in two_replicas().experimental_local_results(variable.value)
        ]

    before = copies()
    result = lr_find(model, x, y, batch_size=8, num_steps=20, cycle_steps=10, verbose=0)
    assert len(result.loss) > 10
    for got, kept in zip(copies(), before, strict=True):
        np.testing.assert_array_equal(got, kept)


@on_jax
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_data_parallel(name: str) -> None:
    import jax

    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    x, y = reference.data(96)
    wanted = expected(name, reference.split(x, y, 8), 12)
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    try:
        model = reference.build()
        model.compile(OPTIMIZERS[name][1](), loss="mse")
        if name == "SGD":
            # It leaves no trace on any device.
            lr_find(model, x, y, batch_size=8, num_steps=20, cycle_steps=10, verbose=0)
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[OneCycle(0.02)])
        assert len(model.variables[0].value.sharding.device_set) == 2
        reference.assert_same_weights(model, wanted)
    finally:
        keras.distribution.set_distribution(None)


@on_tensorflow
def test_inside_the_strategys_scope_as_outside(tmp_path: Path) -> None:
    x, y = reference.data(64)
    arguments: dict[str, Any] = {"batch_size": 16, "shuffle": False, "verbose": 0}
    seen: list[list[np.ndarray]] = []
    for scope in (two_replicas().scope(), nullcontext()):
        model = mirrored(lambda: keras.optimizers.SGD(0.01, momentum=0.9))
        path = tmp_path / "model.keras"
        with scope:
            result = lr_find(model, x, y, num_steps=8, max_lr=0.1, cycle_steps=10, **arguments)
            model.fit(x, y, callbacks=[OneCycle(0.1, total_steps=8)], **arguments)
            cycle = OneCycle(0.1, start_epoch=0)
            model.fit(x, y, epochs=2, initial_epoch=1, callbacks=[cycle], **arguments)
            with OneCycle(0.1, total_steps=4).attach(model):
                model.train_on_batch(x[:16], y[:16])
            model.save(path)
        loaded = keras.saving.load_model(path)
        arrays = [*model.get_weights(), *loaded.get_weights()]
        seen.append([*arrays, cycle.history["momentum"], result.loss])
    for got, wanted in zip(*seen, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
