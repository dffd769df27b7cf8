"""LR and momentum reach the compiled step, each step: shown by the weights.

The reference is the same optimizer stepped eagerly, its Python floats set by hand before each update
to what PyTorch's formula says.
"""

import functools
from collections.abc import Callable
from importlib.util import find_spec

import keras
import numpy as np
import pytest

import reference
from keras_onecycle import HyperparameterScheduler, OneCycle, lr_find

UPDATES = 10
MAX_LR = {"SGD": 0.03, "RMSprop": 0.005, "Muon": 0.02, "Lion": 0.005}

OPTIMIZERS: dict[str, Callable[[], keras.Optimizer]] = {
    "SGD": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "SGD nesterov": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "SGD weight_decay": lambda: keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=0.01),
    "SGD clipnorm": lambda: keras.optimizers.SGD(0.01, momentum=0.9, clipnorm=0.1),
    "SGD global_clipnorm": lambda: keras.optimizers.SGD(0.01, momentum=0.9, global_clipnorm=0.1),
    "SGD ema": lambda: keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True, ema_momentum=0.8),
    "SGD accumulation": lambda: keras.optimizers.SGD(
        0.01, momentum=0.9, gradient_accumulation_steps=3
    ),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9),
    "RMSprop centered": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "Adam amsgrad accumulation": lambda: keras.optimizers.Adam(
        0.01, amsgrad=True, gradient_accumulation_steps=2
    ),
    "AdamW": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "Nadam": lambda: keras.optimizers.Nadam(0.01),
    "Adamax": lambda: keras.optimizers.Adamax(0.01),
    "Lamb": lambda: keras.optimizers.Lamb(0.01),
    "Lion": lambda: keras.optimizers.Lion(0.01),
    "Muon": lambda: keras.optimizers.Muon(0.01),
}
MOMENTUM_NAMES = {"SGD": ["momentum"], "RMSprop": ["momentum"], "Muon": ["momentum", "adam_beta_1"]}


def max_lr_of(name: str) -> float:
    return MAX_LR.get(name.split()[0], 0.02)


def setter(
    name: str, total_steps: int, with_momentum: bool = True
) -> Callable[[keras.Optimizer, int], None]:
    names = MOMENTUM_NAMES.get(name.split()[0], ["beta_1"]) if with_momentum else []

    def set_floats(optimizer: keras.Optimizer, update: int) -> None:
        lr, momentum = reference.one_cycle(update, total_steps, max_lr=max_lr_of(name))
        optimizer.learning_rate = lr
        for attribute in names:
            assert isinstance(getattr(optimizer, attribute), float)
            setattr(optimizer, attribute, momentum)

    return set_floats


def batches_of(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Under accumulation, one batch more than makes whole updates: it is left over."""
    accumulation = OPTIMIZERS[name]().gradient_accumulation_steps
    count = UPDATES // 2 * accumulation + 1 if accumulation else UPDATES
    return reference.split(*reference.data(4 * count), 4)


@functools.cache
def stepped_eagerly(name: str, with_momentum: bool = True) -> keras.Model:
    """What the optimizer makes of the network, its floats set by hand before each update."""
    optimizer, batches = OPTIMIZERS[name](), batches_of(name)
    updates = len(batches) // (optimizer.gradient_accumulation_steps or 1)
    model = reference.build()
    reference.train_eagerly(model, optimizer, batches, setter(name, updates, with_momentum))
    return model


def check(
    name: str,
    *,
    steps_per_execution: int = 1,
    jit_compile: bool | str = "auto",
    wrap: Callable[[keras.Optimizer], keras.Optimizer] = lambda optimizer: optimizer,
    fit_before: bool = False,
    atol: float = 0.0,
) -> None:
    optimizer, batches = OPTIMIZERS[name](), batches_of(name)
    x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    model = reference.build()
    model.compile(
        wrap(optimizer),
        loss="mse",
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    if fit_before:
        weights = model.get_weights()
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        model.set_weights(weights)
        for variable in optimizer.variables:
            if variable.name != "learning_rate":
                variable.assign(np.zeros(variable.shape))
    cycle = OneCycle(max_lr_of(name))
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[cycle])
    reference.assert_same_weights(model, stepped_eagerly(name), atol=atol)
    updates = len(batches) // (optimizer.gradient_accumulation_steps or 1)
    assert len(cycle.history["momentum"]) == updates


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str) -> None:
    check(name, steps_per_execution=4)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "Muon"])
def test_a_constant_momentum_ends_elsewhere(name: str) -> None:
    # What the tests compare is worth comparing.
    with pytest.raises(AssertionError):
        reference.assert_same_weights(stepped_eagerly(name), stepped_eagerly(name, False))


@pytest.mark.parametrize(
    ("name", "jit_compile", "steps_per_execution"),
    [
        ("SGD nesterov", True, 1),
        ("SGD nesterov", True, 4),
        ("SGD nesterov", False, 1),
        ("SGD nesterov", False, 4),
        ("AdamW", True, 1),
        ("AdamW", False, 1),
    ],
)
def test_every_way_to_compile(name: str, jit_compile: bool, steps_per_execution: int) -> None:
    # A bias that ends at 9e-4 is a sum of updates of 1e-2, each of which float32 rounds by 1e-9.
    atol = 1e-7 if name == "AdamW" else 0.0
    check(name, jit_compile=jit_compile, steps_per_execution=steps_per_execution, atol=atol)


def test_a_model_that_was_fit_before() -> None:
    check("SGD", fit_before=True, steps_per_execution=4)


@pytest.mark.parametrize("name", ["Adam", "SGD accumulation"])
def test_inside_a_loss_scale_optimizer(name: str) -> None:
    # Scales are powers of two: dividing the gradients again is exact.
    check(name, wrap=keras.optimizers.LossScaleOptimizer)


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="a dataset of TensorFlow")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_dataset_of_unknown_length(jit_compile: bool) -> None:
    # On TensorFlow, plain `fit` counts an update more at each epoch's end, and decays the weights in it.
    import tensorflow as tf

    if jit_compile and keras.backend.backend() != "tensorflow":
        pytest.skip("the compiled step of the others takes a batch")
    x, y = reference.data(40)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4).filter(lambda x, y: True)
    model, other = reference.build(), reference.build()
    make = OPTIMIZERS["SGD weight_decay"]
    model.compile(make(), loss="mse", metrics=["mae"], jit_compile=jit_compile)
    cycle = OneCycle(0.03, total_steps=30)
    model.fit(dataset, epochs=3, verbose=0, callbacks=[cycle])
    reference.train_eagerly(other, make(), reference.split(x, y, 4) * 3, setter("SGD", 30))
    reference.assert_same_weights(model, other)
    wanted = [reference.one_cycle(step, 30, max_lr=0.03)[0] for step in range(30)]
    np.testing.assert_allclose(cycle.history["learning_rate"], wanted, rtol=1e-5)
    assert int(model.optimizer.iterations) == 30
    if not jit_compile:
        result = lr_find(model, dataset, num_steps=40, stop_factor=None, max_lr=0.1, verbose=0)
        np.testing.assert_allclose(result.lr, np.geomspace(1e-6, 0.1, 40), rtol=1e-4)


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_weights_in_half_precision(policy: str) -> None:
    # As Keras alone with a float, to the digits that half precision has.
    class Constant(HyperparameterScheduler):
        def schedules(self, total_steps: int) -> dict[str, Callable]:
            return {"learning_rate": lambda step: 0.01, "beta_1": lambda step: 0.9}

    keras.config.set_dtype_policy(policy)
    try:
        models = []
        for callbacks in ([], [Constant()]):
            model = reference.build()
            model.compile(keras.optimizers.Nadam(0.01, epsilon=1e-3), loss="mse")
            model.fit(
                *reference.data(32), batch_size=4, shuffle=False, verbose=0, callbacks=callbacks
            )
            models.append([np.array(w, "float32") for w in model.get_weights()])
    finally:
        keras.config.set_dtype_policy("float32")
    for got, wanted in zip(*models, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0.02, atol=1e-3)


def test_run_eagerly() -> None:
    x, y = reference.data(32)
    model, other = reference.build(), reference.build()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse", run_eagerly=True)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[OneCycle(0.03)])
    reference.train_eagerly(other, OPTIMIZERS["SGD"](), reference.split(x, y, 4), setter("SGD", 8))
    reference.assert_same_weights(model, other)


def test_two_phases_with_cosine() -> None:
    x, y = reference.data(160)
    shape = {"max_lr": 0.03, "pct_start": 0.3, "anneal_strategy": "cos", "three_phase": False}
    model, other = reference.build(), reference.build()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[OneCycle(**shape)])

    def set_floats(optimizer: keras.Optimizer, update: int) -> None:
        optimizer.learning_rate, optimizer.momentum = reference.one_cycle(update, 40, **shape)

    reference.train_eagerly(other, OPTIMIZERS["SGD"](), reference.split(x, y, 8) * 2, set_floats)
    reference.assert_same_weights(model, other)


def test_skipped_updates_are_no_steps() -> None:
    # Loss scaling skips a batch whose gradients overflow; the cycle then waits.
    x, y = reference.data(64)
    batches = reference.split(x, y, 4)
    y = y.copy()
    y[4:8] = y[20:24] = np.inf
    model = reference.build()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer), loss="mse")
    cycle = OneCycle(0.03)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[cycle])
    assert int(optimizer.iterations) == 14
    assert len(cycle.history["learning_rate"]) == 14

    other = reference.build()
    kept = [batch for i, batch in enumerate(batches) if i not in (1, 5)]
    reference.train_eagerly(other, OPTIMIZERS["SGD"](), kept, setter("SGD", 16))
    reference.assert_same_weights(model, other)


class UpdatesSeen(keras.callbacks.Callback):
    """Which batches made an update."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.after = [0]

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        iterations = self.model.optimizer.iterations
        self.after.append(int(keras.ops.convert_to_tensor(iterations)))


def test_mixed_float16() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        x, y = reference.data(160)
        model = reference.build()
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        seen = UpdatesSeen()
        callbacks = [OneCycle(0.03), seen]
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)
    finally:
        keras.config.set_dtype_policy("float32")
    made = np.flatnonzero(np.diff(seen.after))
    batches = reference.split(x, y, 4)
    other = reference.build()
    kept = [batches[i] for i in made]
    reference.train_eagerly(other, OPTIMIZERS["SGD"](), kept, setter("SGD", 40))
    # Half precision in the forward pass: agreement to a hundredth.
    reference.assert_same_weights(model, other, rtol=1e-2, atol=2e-4)


def test_without_cycling_momentum() -> None:
    x, y = reference.data(64)
    model, other = reference.build(), reference.build()
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    cycle = OneCycle(0.03, cycle_momentum=False)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[cycle])
    assert set(cycle.history) == {"learning_rate"}

    def set_floats(optimizer: keras.Optimizer, update: int) -> None:
        optimizer.learning_rate, _ = reference.one_cycle(update, 16, max_lr=0.03)

    reference.train_eagerly(other, keras.optimizers.SGD(), reference.split(x, y, 4), set_floats)
    reference.assert_same_weights(model, other)


def test_training_afterwards_is_plain() -> None:
    x, y = reference.data(64)
    model = reference.build()
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss="mse")
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[OneCycle(0.03)])
    middle = [np.array(keras.ops.convert_to_tensor(v)) for v in model.optimizer.variables]
    other = reference.build()
    other.set_weights(model.get_weights())
    plain = keras.optimizers.SGD(0.05, momentum=0.9)
    plain.build(other.trainable_variables)
    for variable, value in zip(plain.variables, middle, strict=True):
        variable.assign(value)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    reference.train_eagerly(other, plain, reference.split(x, y, 4), lambda optimizer, update: None)
    reference.assert_same_weights(model, other)
    assert type(model.optimizer) is type(keras.optimizers.SGD())
    assert model.optimizer.momentum == 0.9
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05)
