"""One schedule over the parts of a `MultiOptimizer`, against NumPy."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras.optimizers import SGD, Adam

import keras_onecycle
import reference
from keras_onecycle import HyperparameterScheduler, OneCycle, lr_find, momentum_find

if not hasattr(keras.optimizers, "MultiOptimizer"):
    pytest.skip("newer than this Keras", allow_module_level=True)

MultiOptimizer, OptimizerMap = keras.optimizers.MultiOptimizer, keras.optimizers.OptimizerMap
BODY = ".*body/.*"
UPDATES = 20


def network() -> keras.Model:
    """`reference.build()` with names that a map can match."""
    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, activation="tanh", name="body"),
            keras.layers.Dense(1, name="head"),
        ]
    )


def optimizer(
    body: Callable[..., Any] = SGD, accumulate: int | None = None, **arguments: Any
) -> MultiOptimizer:
    """The body with a tenth of the head's rate."""
    arguments = {"momentum": 0.9, **arguments} if body is SGD else arguments
    return MultiOptimizer(
        OptimizerMap(
            SGD(0.1, momentum=0.9, gradient_accumulation_steps=accumulate),
            {BODY: body(0.01, gradient_accumulation_steps=accumulate, **arguments)},
        )
    )


def trained(multi: keras.Optimizer, *callbacks: Any, **compile_arguments: Any) -> keras.Model:
    """The network after `UPDATES` batches of 8."""
    model = network()
    model.compile(multi, loss="mse", **compile_arguments)
    x, y = reference.data(8 * UPDATES // 2)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model


def in_numpy(
    rates: Callable[[int], tuple[float, float]], momenta: Callable[[int], tuple[float, float]]
) -> list[np.ndarray]:
    """The weights after SGD with momentum; `rates(update)` and `momenta(update)` are of body and head."""
    model = network()
    weights = [w.astype("float64") for w in model.get_weights()]
    velocities = [np.zeros_like(w) for w in weights]
    x, y = reference.data(8 * UPDATES // 2)
    for update in range(UPDATES):
        rows = slice(8 * update % len(x), 8 * update % len(x) + 8)
        model.set_weights(weights)
        made = reference.gradients(model, x[rows], y[rows])
        for number, gradient in enumerate(made):
            part = number // 2
            rate, momentum = rates(update)[part], momenta(update)[part]
            velocities[number] *= momentum
            velocities[number] -= rate * keras.ops.convert_to_numpy(gradient)
            weights[number] = weights[number] + velocities[number]
    return weights


def cycle_of(max_lr: float, update: int) -> tuple[float, float]:
    return reference.one_cycle(update, UPDATES, max_lr=max_lr)


@pytest.mark.parametrize("steps_per_execution", [1, 4])
@pytest.mark.parametrize(
    ("max_lr", "body_lr"),
    [(0.5, 0.05), ({"default": 0.5, BODY: 0.2}, 0.2), ([0.2, 0.5], 0.2)],
    ids=["ratio", "dict", "list"],
)
def test_each_part_has_its_own_rate(max_lr: Any, body_lr: float, steps_per_execution: int) -> None:
    cycle = OneCycle(max_lr)
    model = trained(optimizer(), cycle, steps_per_execution=steps_per_execution)
    wanted = in_numpy(
        lambda update: (cycle_of(body_lr, update)[0], cycle_of(0.5, update)[0]),
        lambda update: (cycle_of(0.5, update)[1],) * 2,
    )
    for got, weights in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_allclose(got, weights, rtol=2e-4, atol=2e-6)
    history = cycle.history
    assert list(history) == [
        *("learning_rate", "momentum"),
        *(f"learning_rate[{BODY}]", f"momentum[{BODY}]"),
    ]
    for name, rate in (("learning_rate", 0.5), (f"learning_rate[{BODY}]", body_lr)):
        by_formula = [cycle_of(rate, update)[0] for update in range(UPDATES)]
        np.testing.assert_allclose(history[name], by_formula, rtol=1e-5)
    logs = model.history.history
    assert logs[f"learning_rate[{BODY}]"][-1] == pytest.approx(
        cycle_of(body_lr, UPDATES - 1)[0], rel=1e-5
    )
    # The user's own values are back.
    assert [float(part.learning_rate) for part in model.optimizer.optimizers] == pytest.approx(
        [0.01, 0.1]
    )


def test_parts_without_momentum_if_asked_for() -> None:
    with pytest.raises(ValueError, match=r"created with `momentum=0.0`.*no momentum to move"):
        trained(optimizer(momentum=0.0), OneCycle(0.5))
    cycle = OneCycle(0.5, cycle_momentum="available")
    model = trained(optimizer(momentum=0.0), cycle)
    wanted = in_numpy(
        lambda update: (cycle_of(0.05, update)[0], cycle_of(0.5, update)[0]),
        lambda update: (0.0, cycle_of(0.5, update)[1]),
    )
    for got, weights in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_allclose(got, weights, rtol=2e-4, atol=2e-6)
    assert f"momentum[{BODY}]" not in cycle.history
    # Nothing to move in any part is an error all the same.
    model = network()
    model.compile(SGD(0.1), loss="mse")
    x, y = reference.data(16)
    with pytest.raises(ValueError, match="no momentum to move"):
        model.fit(x, y, verbose=0, callbacks=[OneCycle(0.1, cycle_momentum="available")])


def test_other_optimizers_loss_scaling_and_accumulation() -> None:
    cycle = OneCycle(0.02)
    multi = keras.optimizers.LossScaleOptimizer(optimizer(Adam, accumulate=2), initial_scale=1.0)
    model = trained(multi, cycle)
    assert len(cycle.history["learning_rate"]) == UPDATES // 2
    # As if each part had its own float set before each update.
    alone = network()
    parts = [
        Adam(0.01, gradient_accumulation_steps=2),
        SGD(0.1, 0.9, gradient_accumulation_steps=2),
    ]
    for part, of_part in zip(parts, (slice(0, 2), slice(2, 4)), strict=True):
        part.build(alone.trainable_variables[of_part])
    x, y = reference.data(8 * UPDATES // 2)
    for batch in range(UPDATES):
        rows = slice(8 * batch % len(x), 8 * batch % len(x) + 8)
        rate, momentum = reference.one_cycle(batch // 2, UPDATES // 2, max_lr=0.02)
        parts[0].learning_rate, parts[0].beta_1 = rate / 10, momentum
        parts[1].learning_rate, parts[1].momentum = rate, momentum
        made = reference.gradients(alone, x[rows], y[rows])
        for part, of_part in zip(parts, (slice(0, 2), slice(2, 4)), strict=True):
            part.apply(made[of_part], alone.trainable_variables[of_part])
    for got, weights in zip(model.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(got, weights, rtol=5e-4, atol=5e-6)


def test_range_tests_move_all_parts_and_leave_no_trace() -> None:
    model = network()
    model.compile(optimizer(), loss="mse")
    x, y = reference.data(160)
    model.fit(x, y, batch_size=8, verbose=0)
    before = [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]
    find = {
        "batch_size": 8,
        "num_steps": UPDATES,
        "stop_factor": None,
        "verbose": 0,
        "shuffle": False,
    }
    result = lr_find(model, x, y, max_lr=1.0, **find)
    np.testing.assert_allclose(result.lr[[0, -1]], [1e-6, 1.0], rtol=1e-5)
    # Each loss is that of the weights before the update, by NumPy from the same weights.
    other = network()
    other.set_weights(before[:4])
    weights = [w.astype("float64") for w in before[:4]]
    velocities = [
        v.numpy().astype("float64") for p in model.optimizer.optimizers for v in p.momentums
    ]
    for update in range(UPDATES):
        rows = slice(8 * update, 8 * update + 8)
        other.set_weights(weights)
        loss = np.mean((reference.forward(other, x[rows]) - y[rows]) ** 2)
        assert result.loss[update] == pytest.approx(loss, rel=2e-4)
        for number, gradient in enumerate(reference.gradients(other, x[rows], y[rows])):
            rate = result.lr[update] / (10 if number < 2 else 1)
            velocities[number] = 0.9 * velocities[number] - rate * keras.ops.convert_to_numpy(
                gradient
            )
            weights[number] = weights[number] + velocities[number]
    moved = momentum_find(model, x, y, **{**find, "num_steps": 5})
    np.testing.assert_allclose(moved.momentum, np.linspace(0.7, 0.99, 5), rtol=1e-5)
    after = [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]
    for was, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(was, now)


def test_a_training_goes_on_from_a_file(tmp_path: Any) -> None:
    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 0:
                self.model.save(tmp_path / "half.keras")

    whole = trained(optimizer(), OneCycle(0.5, UPDATES), Save())
    model = keras.models.load_model(tmp_path / "half.keras")
    assert [float(part.learning_rate) for part in model.optimizer.optimizers] == pytest.approx(
        [0.01, 0.1]
    )
    x, y = reference.data(8 * UPDATES // 2)
    cycle = OneCycle(0.5, UPDATES, start_epoch=0)
    fit = {"batch_size": 8, "epochs": 2, "initial_epoch": 1, "shuffle": False, "verbose": 0}
    model.fit(x, y, callbacks=[cycle], **fit)
    for got, weights in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(got, weights, rtol=1e-5, atol=1e-7)


def test_attach_and_a_schedule_of_ones_own() -> None:
    class Constant(HyperparameterScheduler):
        def schedules(self, total_steps: int) -> Any:
            return {"learning_rate": lambda step: 0.2}

    multi = optimizer()
    model = network()
    model.compile(multi, loss="mse")
    with Constant(total_steps=3).attach(model) as constant:
        x, y = reference.data(8)
        model.train_on_batch(x, y)
        assert [float(part.learning_rate) for part in multi.optimizers] == pytest.approx(
            [0.02, 0.2]
        )
    np.testing.assert_allclose(constant.history[f"learning_rate[{BODY}]"], [0.02], rtol=1e-6)
    assert [float(part.learning_rate) for part in multi.optimizers] == pytest.approx([0.01, 0.1])


@pytest.mark.any_backend
def test_what_cannot_be_done_is_said_before_training() -> None:
    with pytest.raises(
        ValueError, match=r"`max_lr` must have a learning rate for each part.*Received"
    ):
        trained(optimizer(), OneCycle({"default": 0.1, "boddy": 0.1}))
    with pytest.raises(ValueError, match=r"list of 2 with that of the default optimizer last"):
        trained(optimizer(), OneCycle([0.1, 0.1, 0.1]))
    with pytest.raises(ValueError, match=r"`max_lr` must have a learning rate for each part"):
        trained(SGD(0.1, 0.9), OneCycle({"default": 0.1, BODY: 0.1}))
    with pytest.raises(ValueError, match=r"`max_lr` must have a rate for the default optimizer"):
        OneCycle({BODY: 0.1})
    with pytest.raises(ValueError, match=r"`max_lr` must be .*Received: max_lr=-1.0"):
        OneCycle([-1.0, 0.1])
    with pytest.raises(ValueError, match=r"Create it with a `keras.optimizers.OptimizerMap`"):
        trained(MultiOptimizer(lambda variable: SGD(0.1)), OneCycle(0.1))
    parts = OptimizerMap(SGD(0.1, 0.9), {BODY: SGD(0.1, 0.9, gradient_accumulation_steps=2)})
    with pytest.raises(ValueError, match=r"the same `gradient_accumulation_steps`"):
        trained(MultiOptimizer(parts), OneCycle(0.1))
    with pytest.raises(ValueError, match=r"default optimizer must be above 0"):
        trained(MultiOptimizer(OptimizerMap(SGD(0.0, 0.9), {BODY: SGD(0.1, 0.9)})), OneCycle(0.1))


def test_a_key_that_matches_no_variable_is_told() -> None:
    multi = MultiOptimizer(OptimizerMap(SGD(0.1, 0.9), {"boddy/.*": SGD(0.01, 0.9)}))
    told = r"variable matches 'boddy/\.\*' of .* whole path, such as '.*body/kernel' or '.*head/bias'\."
    with pytest.warns(UserWarning, match=told):
        model = trained(multi, cycle := OneCycle(0.1))
    assert list(cycle.history) == ["learning_rate", "momentum"]
    with pytest.warns(UserWarning, match=told):
        lr_find(model, *reference.data(80), num_steps=10, verbose=0)


def test_a_default_optimizer_without_variables_is_no_fault(
    recwarn: pytest.WarningsRecorder,
) -> None:
    parts = {BODY: SGD(0.01, 0.9), ".*head/.*": SGD(0.1, 0.9)}
    trained(MultiOptimizer(OptimizerMap(SGD(0.1, 0.9), parts)), cycle := OneCycle(0.1))
    rates = [f"learning_rate[{key}]" for key in parts]
    assert [name for name in cycle.history if "rate" in name] == rates
    assert not [w for w in recwarn if "OneCycle" in str(w.message) or "matches" in str(w.message)]


@pytest.mark.any_backend
def test_keras_has_what_is_read_of_a_multi_optimizer() -> None:
    multi = optimizer()
    assert list(multi._optimizer_map) == [BODY]
    assert multi._optimizer_map.default_optimizer is multi.optimizers[-1]
    assert keras_onecycle._keras.optimizer_traits.counter_of(multi) is multi.iterations
