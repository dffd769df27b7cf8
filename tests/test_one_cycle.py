"""`OneCycle` as a callback: steps, history, logs, refusals, conflicts, and use without `fit`."""

import copy
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import reference
from keras_onecycle import HyperparameterScheduler, OneCycle


def compiled(optimizer: keras.Optimizer | None = None, **arguments: Any) -> keras.Model:
    model = reference.build()
    model.compile(optimizer or keras.optimizers.SGD(0.01, momentum=0.9), loss="mse", **arguments)
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, **arguments: Any) -> Any:
    x, y = reference.data(64)
    arguments = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(x, y, callbacks=list(callbacks), **arguments)


def wanted(total: int, steps: Any = None, **shape: Any) -> np.ndarray:
    steps = range(total) if steps is None else steps
    return np.array([reference.one_cycle(step, total, max_lr=0.03, **shape) for step in steps])


def assert_history(cycle: OneCycle, values: np.ndarray) -> None:
    np.testing.assert_allclose(cycle.history["learning_rate"], values[:, 0], rtol=1e-5)
    np.testing.assert_allclose(cycle.history["momentum"], values[:, 1], rtol=1e-5)


# Steps


@pytest.mark.parametrize("steps_per_execution", [1, 5])
def test_history_has_a_value_for_each_update(steps_per_execution: int) -> None:
    cycle = OneCycle(0.03)
    fit(compiled(steps_per_execution=steps_per_execution), cycle)
    assert_history(cycle, wanted(24))


def test_a_step_is_an_update_under_gradient_accumulation() -> None:
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, gradient_accumulation_steps=5)
    cycle = OneCycle(0.03)
    fit(compiled(optimizer), cycle)
    assert_history(cycle, wanted(24 // 5))


def test_the_last_values_are_held() -> None:
    cycle = OneCycle(0.03, total_steps=10)
    fit(compiled(), cycle)
    assert_history(cycle, wanted(10, [min(step, 9) for step in range(24)]))


@pytest.mark.any_backend
def test_unknown_length_needs_total_steps() -> None:
    x, y = reference.data(64)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            yield from reference.split(x, y, 8)

    model = compiled()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"total_steps=\.\.\..*steps_per_epoch"):
        model.fit(batches(), verbose=0, callbacks=[OneCycle(0.03), Stop(5)])
    for got, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, kept)
    cycle = OneCycle(0.03, total_steps=12)
    model.fit(batches(), verbose=0, callbacks=[cycle, Stop(5)])
    assert_history(cycle, wanted(12, range(6)))
    cycle = OneCycle(0.03)
    model.fit(batches(), steps_per_epoch=4, epochs=2, verbose=0, callbacks=[cycle])
    assert_history(cycle, wanted(8))


def batches_of(number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    x, y = reference.data(8 * number)
    yield from reference.split(x, y, 8)


class Stop(keras.callbacks.Callback):
    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.model.stop_training = batch == self.batch


@pytest.mark.parametrize(
    ("cycle", "arguments", "told"),
    [
        (lambda: OneCycle(0.03, total_steps=200), {}, r"data ended at step 10 of 200"),
        (
            lambda: OneCycle(0.03),
            {"steps_per_epoch": 4, "epochs": 5},
            r"data ended at step 1\d of 20",
        ),
        (lambda: OneCycle(0.03, total_steps=10), {}, None),
        (lambda: OneCycle(0.03, total_steps=200), {"callbacks": [Stop(5)]}, None),
    ],
    ids=["unknown length", "run dry", "as long", "stopped"],
)
def test_data_that_end_before_the_cycle_are_told(
    cycle: Any, arguments: dict, told: str | None, recwarn: pytest.WarningsRecorder
) -> None:
    callbacks = [cycle(), *arguments.get("callbacks", [])]
    compiled().fit(batches_of(10), verbose=0, **{**arguments, "callbacks": callbacks})
    ours = [str(w.message) for w in recwarn if "`OneCycle`" in str(w.message)]
    # Nothing else is blamed for it. (Keras goes over the first batches of a generator that is dry again.)
    assert len(ours) == bool(told)
    assert not told or re.search(told, ours[0])


@pytest.mark.any_backend
def test_more_updates_than_a_schedule_can_have() -> None:
    model = compiled()
    with pytest.raises(ValueError, match=rf"at most 2147483647.*`OneCycle.*epochs={sys.maxsize}"):
        fit(model, OneCycle(0.03), Stop(2), epochs=sys.maxsize)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    fit(model, cycle := OneCycle(0.03, total_steps=12), Stop(2), epochs=sys.maxsize)
    assert_history(cycle, wanted(12, range(3)))


def test_frozen_layers_are_named_where_no_update_is_made() -> None:
    model = compiled()
    model.trainable = False
    with pytest.warns(UserWarning, match=r"made no update.*every layer is frozen"):
        fit(model, OneCycle(0.03))


def test_a_second_fit_is_a_new_cycle() -> None:
    model, cycle = compiled(), OneCycle(0.03)
    fit(model, cycle)
    fit(model, cycle)
    assert_history(cycle, wanted(24))
    another = OneCycle(0.03)
    fit(model, another, epochs=1)
    assert_history(another, wanted(8))
    assert int(model.optimizer.iterations) == 56


def test_initial_epoch_goes_on_in_the_cycle() -> None:
    model, cycle = compiled(), OneCycle(0.03, total_steps=24)
    fit(model, epochs=2)  # Other training before: 16 updates.
    fit(model, cycle, epochs=1)
    fit(model, cycle, epochs=3, initial_epoch=1)
    assert_history(cycle, wanted(24, range(8, 24)))
    np.testing.assert_array_equal(cycle.plot().axes[0].lines[0].get_xdata(), np.arange(8, 24))


def test_initial_epoch_with_a_new_optimizer_is_a_new_cycle() -> None:
    # As in transfer learning, which numbers the epochs on: there is nothing to resume.
    cycle = OneCycle(0.03)
    fit(compiled(), cycle, initial_epoch=1)
    assert_history(cycle, wanted(16))


# Logs


def test_epoch_logs_have_the_values_of_the_last_update(tmp_path: Path) -> None:
    seen: list[dict] = []
    later = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    csv = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    history = fit(compiled(), OneCycle(0.03), later, csv).history
    values = wanted(24)[[7, 15, 23]]
    np.testing.assert_allclose(history["learning_rate"], values[:, 0], rtol=1e-5)
    np.testing.assert_allclose(history["momentum"], values[:, 1], rtol=1e-5)
    np.testing.assert_allclose([logs["momentum"] for logs in seen], values[:, 1], rtol=1e-5)
    table = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["learning_rate"], values[:, 0], rtol=1e-5)


def test_other_callbacks_read_the_next_value_from_the_optimizer() -> None:
    rates: list[float] = []

    class Reader(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            rates.append(float(self.model.optimizer.learning_rate))
            # As of a variable: others ask for it.
            assert self.model.optimizer.learning_rate.shape == ()

    fit(compiled(), OneCycle(0.03), Reader(), epochs=1)
    np.testing.assert_allclose(rates, wanted(8, range(1, 9))[:, 0], rtol=1e-5)


@pytest.mark.any_backend
def test_training_with_another_optimizer_is_told() -> None:
    model = reference.TrainedElsewhere(reference.build().layers)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    cycle = OneCycle(0.03)
    with pytest.warns(UserWarning, match="`train_step` uses another optimizer"):
        history = fit(model, cycle).history
    assert set(history) == {"loss"}
    assert not cycle.history["learning_rate"].size


def test_history_is_read_in_the_middle() -> None:
    seen: list[int] = []
    for attached in (True, False):
        model, cycle = compiled(), OneCycle(0.03, total_steps=24)
        read = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append(len(cycle.history["momentum"]))  # noqa: B023
        )
        if attached:
            cycle.attach(model)
            fit(model, read, epochs=1)
            cycle.detach()
        else:
            fit(model, cycle, read, epochs=1)
        assert_history(cycle, wanted(24, range(8)))
    assert seen == [*range(1, 9), *range(1, 9)]


@pytest.mark.any_backend
def test_plot_draws_what_was_recorded() -> None:
    cycle = OneCycle(0.03)
    with pytest.raises(ValueError, match="nothing to plot"):
        cycle.plot()
    fit(compiled(), cycle)
    figure = cycle.plot()
    axes = figure.axes
    assert [ax.get_ylabel() for ax in axes] == ["learning rate", "momentum"]
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), wanted(24)[:, 1], rtol=1e-5)
    assert cycle.plot(axes=axes) is figure
    assert len(axes[0].lines) == 2
    with pytest.raises(ValueError, match="length 1"):
        cycle.plot(axes=axes[:1])
    planned = OneCycle(0.03, cycle_momentum=False)
    planned.total_steps = 10
    (ax,) = planned.plot().axes
    np.testing.assert_allclose(ax.lines[0].get_ydata(), wanted(10)[:, 0], rtol=1e-5)


# What cannot be scheduled


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (keras.optimizers.Adagrad, "`Adagrad` has no momentum.*cycle_momentum=False"),
        (keras.optimizers.SGD, "`SGD` was created with `momentum=0.0`.*cycle_momentum=False"),
        (keras.optimizers.RMSprop, "`RMSprop` was created with `momentum=0.0`"),
        (
            lambda: keras.optimizers.ScheduleFreeAdamW(0.01),
            "`ScheduleFreeAdamW` cannot follow a schedule",
        ),
        (
            lambda: keras.optimizers.SGD(
                keras.optimizers.schedules.CosineDecay(0.1, 10), momentum=0.9
            ),
            "already has a learning rate schedule.*learning_rate=0.01",
        ),
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()),
            "`SGD` was created with `momentum=0.0`",
        ),
    ],
)
def test_refused_by_name(optimizer: Any, message: str) -> None:
    model = compiled(optimizer())
    kind = type(model.optimizer)
    with pytest.raises(ValueError, match=message):
        fit(model, OneCycle(0.03))
    assert type(model.optimizer) is kind


def test_the_learning_rate_alone_of_an_optimizer_without_momentum() -> None:
    model, cycle = compiled(keras.optimizers.Adagrad(0.01)), OneCycle(0.03, cycle_momentum=False)
    with pytest.raises(ValueError, match="cycle_momentum=False"):
        fit(model, OneCycle(0.03))
    fit(model, cycle)
    np.testing.assert_allclose(cycle.history["learning_rate"], wanted(24)[:, 0], rtol=1e-5)


BAD = [
    ("max_lr", -1.0, ValueError),
    ("max_lr", 0.0, ValueError),
    ("max_lr", float("nan"), ValueError),
    ("max_lr", float("inf"), ValueError),
    ("max_lr", "0.1", TypeError),
    ("max_lr", None, TypeError),
    ("max_lr", True, TypeError),
    ("total_steps", 0, ValueError),
    ("total_steps", 2**31, ValueError),
    ("total_steps", 10.0, TypeError),
    ("pct_start", -0.1, ValueError),
    ("pct_start", 0.6, ValueError),
    ("pct_start", float("nan"), ValueError),
    ("anneal_strategy", "cosine", ValueError),
    ("anneal_strategy", 1, TypeError),
    ("cycle_momentum", 1, TypeError),
    ("base_momentum", 1.0, ValueError),
    ("base_momentum", -0.1, ValueError),
    ("base_momentum", 0.96, ValueError),
    ("max_momentum", 1.5, ValueError),
    ("max_momentum", [0.9], TypeError),
    ("div_factor", 0, ValueError),
    ("final_div_factor", -1, ValueError),
    ("three_phase", "yes", TypeError),
]


@pytest.mark.any_backend
@pytest.mark.parametrize(("name", "value", "error"), BAD)
def test_bad_arguments_are_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"`{name}`.*Received: .*{name}="):
        OneCycle(**{"max_lr": 0.1, name: value})


@pytest.mark.any_backend
def test_what_else_cycle_momentum_takes_is_named() -> None:
    with pytest.raises(TypeError, match=r"True, False or 'available'.*cycle_momentum='yes'"):
        OneCycle(0.1, cycle_momentum="yes")


@pytest.mark.any_backend
def test_two_phases_may_rise_longer() -> None:
    cycle = OneCycle(0.03, pct_start=0.7, three_phase=False)
    fit(compiled(), cycle)
    assert_history(cycle, wanted(24, pct_start=0.7, three_phase=False))


# Conflicts


@pytest.mark.any_backend
@pytest.mark.parametrize("first", [True, False])
def test_a_learning_rate_scheduler_beside_it_is_an_error(first: bool) -> None:
    other = keras.callbacks.LearningRateScheduler(lambda epoch, lr: 0.5)
    callbacks = [other, OneCycle(0.03)] if first else [OneCycle(0.03), other]
    model = compiled()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"`learning_rate` follows .* `OneCycle`.*Received"):
        fit(model, *callbacks)
    for got, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, kept)
    fit(model, epochs=1)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


@pytest.mark.any_backend
def test_reduce_lr_on_plateau_is_named_and_does_not_stop_the_training() -> None:
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=1e9)
    cycle = OneCycle(0.03)
    with pytest.warns(UserWarning, match=r"ReduceLROnPlateau.*which was ignored"):
        fit(compiled(), cycle, plateau)
    assert_history(cycle, wanted(24))


@pytest.mark.any_backend
def test_two_schedules_on_one_optimizer_are_an_error() -> None:
    model = compiled()
    with pytest.raises(ValueError, match="already follows the schedule of `OneCycle`"):
        fit(model, OneCycle(0.03), OneCycle(0.1))
    fit(model, epochs=1)
    assert type(model.optimizer) is type(keras.optimizers.SGD())


# After an exception


class Fail(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if batch == 3:
            raise KeyboardInterrupt


def test_the_next_fit_after_ctrl_c_is_plain() -> None:
    model, cycle = compiled(), OneCycle(0.03)
    with pytest.raises(KeyboardInterrupt):
        fit(model, cycle, Fail())
    weights = model.get_weights()
    variables = [np.array(keras.ops.convert_to_tensor(v)) for v in model.optimizer.variables]
    fit(model, epochs=1)
    assert type(model.optimizer) is type(keras.optimizers.SGD())
    assert_history(cycle, wanted(24, range(4)))

    other = reference.build()
    other.set_weights(weights)
    plain = keras.optimizers.SGD(0.01, momentum=0.9)
    plain.build(other.trainable_variables)
    for variable, value in zip(plain.variables, variables, strict=True):
        variable.assign(value)
    x, y = reference.data(64)
    reference.train_eagerly(other, plain, reference.split(x, y, 8), lambda optimizer, update: None)
    reference.assert_same_weights(model, other)


def test_detach_after_ctrl_c_gives_the_optimizer_back() -> None:
    model, cycle = compiled(), OneCycle(0.03)
    with pytest.raises(KeyboardInterrupt):
        fit(model, cycle, Fail())
    cycle.detach()
    cycle.detach()
    assert_history(cycle, wanted(24, range(4)))
    assert type(model.optimizer) is type(keras.optimizers.SGD())
    assert "make_train_function" not in vars(model)
    assert model.optimizer.momentum == 0.9
    again = OneCycle(0.03)
    fit(model, again)
    assert_history(again, wanted(24))


@pytest.mark.parametrize("by_hand", [True, False])
def test_detach_after_an_error_inside_the_first_step(by_hand: bool) -> None:
    x, y = reference.data(64)
    model, cycle = compiled(), OneCycle(0.03)
    fit(model, epochs=1)
    with pytest.raises(Exception):  # noqa: B017 - each backend has its own.
        model.fit(x[:, :3], y, verbose=0, callbacks=[cycle])
    optimizer = model.optimizer
    if by_hand:
        cycle.detach()
    # On JAX nothing of the old state has a value any more.
    model.set_weights(reference.build().get_weights())
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    fit(model, epochs=1)
    assert type(optimizer) is type(keras.optimizers.SGD())
    assert not cycle.history["momentum"].size


# Pickles and copies


@pytest.mark.any_backend
def test_pickles_and_copies() -> None:
    model, cycle = compiled(), OneCycle(0.03, pct_start=0.3)
    fit(model, cycle)
    for copied in (pickle.loads(pickle.dumps(cycle)), copy.copy(cycle), copy.deepcopy(cycle)):
        assert copied.model is None
        assert_history(copied, wanted(24, pct_start=0.3))
    fit(model, copied, epochs=1)
    assert_history(copied, wanted(8, pct_start=0.3))


@pytest.mark.any_backend
def test_pickles_in_mid_training() -> None:
    copies: list[OneCycle] = []
    cycle = OneCycle(0.03)
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: copies.append(pickle.loads(pickle.dumps(cycle)))
    )
    fit(compiled(), cycle, keep)
    assert_history(copies[0], wanted(24, range(8)))


# Without `fit`


def test_train_on_batch_with_a_model_that_was_trained_before() -> None:
    x, y = reference.data(64)
    model = compiled()
    model.train_on_batch(x[:8], y[:8])
    weights = model.get_weights()
    variables = [np.array(keras.ops.convert_to_tensor(v)) for v in model.optimizer.variables]
    cycle = OneCycle(0.03, total_steps=8)
    with cycle.attach(model):
        for batch in reference.split(x, y, 8):
            model.train_on_batch(*batch)
        assert len(cycle.history["momentum"]) == 8
    assert_history(cycle, wanted(8))
    assert type(model.optimizer) is type(keras.optimizers.SGD())

    other = reference.build()
    other.set_weights(weights)
    plain = keras.optimizers.SGD(0.01, momentum=0.9)
    plain.build(other.trainable_variables)
    for variable, value in zip(plain.variables, variables, strict=True):
        variable.assign(value)

    def set_floats(optimizer: keras.Optimizer, update: int) -> None:
        optimizer.learning_rate, optimizer.momentum = wanted(8)[update]

    reference.train_eagerly(other, plain, reference.split(x, y, 8), set_floats)
    reference.assert_same_weights(model, other)


def compiled_step(model: keras.Model, optimizer: keras.Optimizer) -> Any:
    """A train step of one's own, compiled as the backend's guide says."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step(x: Any, y: Any) -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
            weights = model.trainable_variables
            optimizer.apply(tape.gradient(loss, [v.value for v in weights]), weights)

        return step
    import jax

    @jax.jit
    def update(weights: Any, slots: Any, x: Any, y: Any) -> Any:
        def loss_of(weights: Any) -> Any:
            return jax.numpy.mean((model.stateless_call(weights, [], x)[0] - y) ** 2)

        return optimizer.stateless_apply(slots, jax.grad(loss_of)(weights), weights)

    def step(x: Any, y: Any) -> None:
        groups = (model.trainable_variables, optimizer.variables)
        values = update(*[[v.value for v in group] for group in groups], x, y)
        for group, new in zip(groups, values, strict=True):
            for variable, value in zip(group, new, strict=True):
                variable.assign(value)

    return step


def test_a_training_loop_of_ones_own() -> None:
    x, y = reference.data(64)
    model, other = reference.build(), reference.build()
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    with OneCycle(0.03, total_steps=8).attach(optimizer):
        step = compiled_step(model, optimizer)
        for batch in reference.split(x, y, 8):
            step(*batch)
    assert type(optimizer) is type(keras.optimizers.Adam())
    # The old step has the cycle in it for good.
    step = compiled_step(model, optimizer)
    for batch in reference.split(x, y, 8):
        step(*batch)

    def set_floats(plain: keras.Optimizer, update: int) -> None:
        lr, momentum = wanted(8)[update] if update < 8 else (0.01, 0.9)
        plain.learning_rate = lr
        plain.beta_1 = momentum

    plain = keras.optimizers.Adam(0.01)
    reference.train_eagerly(other, plain, reference.split(x, y, 8) * 2, set_floats)
    reference.assert_same_weights(model, other)


def test_each_part_of_a_multi_optimizer_by_hand() -> None:
    x, y = reference.data(64)
    parts = [keras.optimizers.SGD(0.01, momentum=0.9), keras.optimizers.SGD(0.01, momentum=0.9)]
    model = reference.build()
    names = keras.optimizers.OptimizerMap(parts[0], {model.layers[-1].kernel.path: parts[1]})
    both = keras.optimizers.MultiOptimizer(names)
    model.compile(both, loss="mse")
    model.train_on_batch(x[:8], y[:8], sample_weight=np.zeros(8))
    cycles = [OneCycle(0.03, total_steps=8).attach(part) for part in parts]
    model.compile(both, loss="mse")
    for batch in reference.split(x, y, 8):
        model.train_on_batch(*batch)
    for cycle in cycles:
        assert_history(cycle, wanted(8))
        cycle.detach()
    model.compile(both, loss="mse")
    for batch in reference.split(x, y, 8):
        model.train_on_batch(*batch)
    other = reference.build()

    def set_floats(optimizer: keras.Optimizer, update: int) -> None:
        values = wanted(8)[update] if update < 8 else (0.01, 0.9)
        optimizer.learning_rate, optimizer.momentum = values

    plain = keras.optimizers.SGD(0.01, momentum=0.9)
    reference.train_eagerly(other, plain, reference.split(x, y, 8) * 2, set_floats)
    reference.assert_same_weights(model, other)


@pytest.mark.any_backend
def test_attach_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"Received: total_steps=None"):
        OneCycle(0.03).attach(compiled())
    with pytest.raises(ValueError, match="compiled with an optimizer"):
        OneCycle(0.03, total_steps=8).attach(reference.build())
    with pytest.raises(TypeError, match="optimizer='sgd'"):
        OneCycle(0.03, total_steps=8).attach("sgd")
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    with (
        OneCycle(0.03, total_steps=8).attach(optimizer),
        pytest.raises(ValueError, match="already follows"),
    ):
        OneCycle(0.03, total_steps=8).attach(optimizer)


# A policy of one's own


def test_any_float_can_follow_a_schedule() -> None:
    class Policy(HyperparameterScheduler):
        def schedules(self, total_steps: int) -> dict:
            def rise(step: Any) -> Any:
                return 0.5 * keras.ops.cast(step, "float32") / total_steps

            return {"weight_decay": rise, "beta_2": lambda step: 0.9 + 0.1 * rise(step)}

    x, y = reference.data(64)
    model, other = reference.build(), reference.build()
    model.compile(keras.optimizers.AdamW(0.02, weight_decay=0.1), loss="mse")
    policy = Policy()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[policy])

    def set_floats(optimizer: keras.Optimizer, update: int) -> None:
        optimizer.weight_decay = 0.5 * update / 8
        optimizer.beta_2 = 0.9 + 0.05 * update / 8

    plain = keras.optimizers.AdamW(0.02, weight_decay=0.1)
    reference.train_eagerly(other, plain, reference.split(x, y, 8), set_floats)
    reference.assert_same_weights(model, other)
    assert set(policy.history) == {"weight_decay", "beta_2"}

    class Unknown(HyperparameterScheduler):
        def schedules(self, total_steps: int) -> dict:
            return {"rho": lambda step: 0.5}

    with pytest.raises(ValueError, match="`AdamW` has no number `rho`"):
        model.fit(x, y, verbose=0, callbacks=[Unknown()])


def test_weight_decay_beside_learning_rate_and_momentum() -> None:
    class WithWeightDecay(OneCycle):
        def schedules(self, total_steps: int) -> dict:
            def weight_decay(step: Any) -> Any:
                return 0.5 * (1 - keras.ops.cast(step, "float32") / total_steps)

            return {**super().schedules(total_steps), "weight_decay": weight_decay}

    x, y = reference.data(64)
    model, other = reference.build(), reference.build()
    model.compile(keras.optimizers.AdamW(weight_decay=0.1), loss="mse", steps_per_execution=4)
    policy = WithWeightDecay(0.03)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[policy])

    def set_floats(optimizer: keras.Optimizer, update: int) -> None:
        rate, momentum = reference.one_cycle(update, 8, max_lr=0.03)
        optimizer.learning_rate, optimizer.beta_1 = rate, momentum
        optimizer.weight_decay = 0.5 * (1 - update / 8)

    plain = keras.optimizers.AdamW(weight_decay=0.1)
    reference.train_eagerly(other, plain, reference.split(x, y, 8), set_floats)
    reference.assert_same_weights(model, other)
    assert set(policy.history) == {"learning_rate", "momentum", "weight_decay"}
    assert model.optimizer.weight_decay == 0.1


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX looks for them itself")
def test_no_tracer_outlives_its_trace() -> None:
    import jax

    model = reference.build()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    with jax.checking_leaks():
        model.fit(*reference.data(16), batch_size=4, verbose=0, callbacks=[OneCycle(0.01)])
