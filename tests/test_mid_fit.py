"""What callbacks do to the model in the middle of `fit`: the schedule stays on, and history says what was."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import pytest

import reference
from keras_onecycle import HyperparameterScheduler, LRFinder, OneCycle, lr_find, scheduler
from keras_onecycle.schedules import evaluate

X, Y = reference.data(64)
BATCHES = reference.split(X, Y, 8)


def compiled(optimizer: keras.Optimizer | None = None, **arguments: Any) -> keras.Model:
    model = reference.build()
    model.compile(optimizer or keras.optimizers.SGD(0.01, momentum=0.9), loss="mse", **arguments)
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, **arguments: Any) -> None:
    arguments = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0, **arguments}
    model.fit(X, Y, callbacks=list(callbacks), **arguments)


def at_epoch(epoch: int, act: Callable[[keras.Model], Any]) -> keras.callbacks.Callback:
    class Act(keras.callbacks.Callback):
        def on_epoch_begin(self, number: int, logs: dict | None = None) -> None:
            if number == epoch:
                act(self.model)

    return Act()


def trained_eagerly(batches: list, total_steps: int, max_lr: float = 0.1) -> keras.Model:
    """A model stepped over `batches` under the cycle, by the formula of PyTorch's documentation."""

    def set_floats(optimizer: keras.Optimizer, step: int) -> None:
        optimizer.learning_rate, optimizer.momentum = reference.one_cycle(
            step, total_steps, max_lr=max_lr
        )

    model = reference.build()
    reference.train_eagerly(model, keras.optimizers.SGD(0.01, momentum=0.9), batches, set_floats)
    return model


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_a_function_made_in_mid_fit_has_the_schedule(steps_per_execution: int) -> None:
    model, cycle = compiled(steps_per_execution=steps_per_execution), OneCycle(0.1)
    fit(model, cycle, at_epoch(2, lambda model: model.make_train_function(force=True)))
    reference.assert_same_weights(model, trained_eagerly(BATCHES * 3, 24))
    assert len(cycle.history["learning_rate"]) == 24


def test_history_may_be_read_beside_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(schedule: Any, steps: Any) -> Any:
        time.sleep(0.002)
        return evaluate(schedule, steps)

    monkeypatch.setattr(scheduler, "evaluate", slowly)
    model, cycle = compiled(), OneCycle(0.1)
    over = threading.Event()

    def look() -> set[tuple[int, ...]]:
        seen = set()
        while not over.wait(0.0001):
            seen.add(tuple(map(len, cycle.history.values())))
        return seen

    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(look)
        try:
            fit(model, cycle, epochs=20)
        finally:
            over.set()
    # Whole epochs, of both.
    assert seen.result() <= {(number, number) for number in range(0, 161, 8)}
    assert len(cycle.history["learning_rate"]) == 160
    reference.assert_same_weights(model, trained_eagerly(BATCHES * 20, 160))


def test_updates_that_a_callback_makes_are_steps_of_the_cycle() -> None:
    model, cycle = compiled(), OneCycle(0.1, total_steps=27)
    extra = BATCHES[0]

    def more(model: keras.Model) -> None:
        model.train_on_batch(*extra)
        model.fit(*extra, epochs=2, batch_size=8, verbose=0)

    fit(model, cycle, at_epoch(1, more))
    batches = [*BATCHES, *[extra] * 3, *BATCHES * 2]
    reference.assert_same_weights(model, trained_eagerly(batches, 27))
    wanted = [reference.one_cycle(step, 27, max_lr=0.1)[0] for step in range(27)]
    np.testing.assert_allclose(cycle.history["learning_rate"], wanted, rtol=1e-5)


def test_more_updates_than_planned_are_told() -> None:
    more = at_epoch(1, lambda model: model.fit(*BATCHES[0], epochs=3, verbose=0))
    with pytest.warns(UserWarning, match=r"8 batches made 11 updates.*`total_steps`"):
        fit(compiled(), OneCycle(0.1), more)


@pytest.mark.parametrize(
    "nested",
    [
        lambda model: model.fit(X, Y, verbose=0, callbacks=[OneCycle(0.2)]),
        lambda model: lr_find(model, X, Y, verbose=0),
    ],
)
def test_another_schedule_in_mid_fit_is_refused_by_name(nested: Callable) -> None:
    model = compiled(steps_per_execution=2)
    with pytest.raises(ValueError, match="already follows the schedule of `OneCycle`"):
        fit(model, OneCycle(0.1), at_epoch(1, nested))
    assert model.steps_per_execution == 2


def test_compile_under_a_schedule_is_refused() -> None:
    def compile_anew(model: keras.Model) -> None:
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")

    def compile_and_make(model: keras.Model) -> None:
        compile_anew(model)
        model.make_train_function()

    with pytest.raises(ValueError, match=r"compiled anew, and `OneCycle`"):
        fit(compiled(), OneCycle(0.1), at_epoch(1, compile_and_make))
    for train in (lambda model: model.train_on_batch(*BATCHES[0]), fit):
        model = compiled()
        with OneCycle(0.1, total_steps=8).attach(model):
            compile_anew(model)
            with pytest.raises(ValueError, match=r"compiled anew, and `OneCycle`.*`detach\(\)`"):
                train(model)
        train(model)


@pytest.mark.any_backend
def test_one_callback_in_two_models_at_once_is_refused_and_the_outer_goes_on() -> None:
    cycle, inner = OneCycle(0.1), compiled()

    def nested(model: keras.Model) -> None:
        for other in (inner, model):
            with pytest.raises(
                ValueError, match=r"This `OneCycle` is the callback of a `fit` that still"
            ):
                fit(other, cycle)

    fit(model := compiled(), cycle, at_epoch(1, nested))
    reference.assert_same_weights(model, trained_eagerly(BATCHES * 3, 24))
    finder, second = (
        LRFinder(num_steps=24, stop_factor=None),
        LRFinder(num_steps=24, stop_factor=None),
    )

    def nested_test(model: keras.Model) -> None:
        with pytest.raises(
            ValueError, match=r"This `LRFinder` is the callback of a `fit` that still"
        ):
            fit(inner, finder)

    fit(model, finder, at_epoch(1, nested_test))
    fit(model, second)
    np.testing.assert_allclose(finder.result.loss, second.result.loss, rtol=1e-5)
    attached = OneCycle(0.1, total_steps=8).attach(model)
    with pytest.raises(ValueError, match=r"This `OneCycle` is attached already.*`detach\(\)`"):
        attached.attach(inner)


def test_a_callback_of_an_interrupted_fit_serves_another_model() -> None:
    def interrupt(model: keras.Model) -> None:
        raise KeyboardInterrupt

    first, second, cycle = compiled(), compiled(), OneCycle(0.1)
    with pytest.raises(KeyboardInterrupt):
        fit(first, cycle, at_epoch(1, interrupt))
    fit(second, cycle)
    assert type(first.optimizer) is type(second.optimizer) is type(keras.optimizers.SGD())
    reference.assert_same_weights(second, trained_eagerly(BATCHES * 3, 24))


@pytest.mark.parametrize(
    "take_up",
    [
        lambda model: lr_find(model, X, Y, batch_size=8, num_steps=12, cycle_steps=0, verbose=0),
        lambda model: OneCycle(0.1, total_steps=8).attach(model).detach(),
        lambda model: OneCycle(0.1, total_steps=8).attach(model.optimizer).detach(),
    ],
)
@pytest.mark.parametrize("callback", [OneCycle(0.1), LRFinder(num_steps=24, stop_factor=None)])
@pytest.mark.filterwarnings("ignore:A range test was interrupted and not undone")
def test_after_an_interrupted_fit_others_take_up_the_optimizer(
    callback: keras.callbacks.Callback, take_up: Callable[[keras.Model], Any]
) -> None:
    def interrupt(model: keras.Model) -> None:
        raise KeyboardInterrupt

    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, callback, at_epoch(1, interrupt))
    before = model.get_weights()
    take_up(model)
    assert type(model.optimizer) is type(keras.optimizers.SGD())
    for got, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, kept)
    fit(model, OneCycle(0.1))


class Loop:
    """A loop of one's own, that keeps its `CallbackList` and begins it in another function."""

    def __init__(self, model: keras.Model, *callbacks: keras.callbacks.Callback) -> None:
        self.model = model
        self.callbacks = keras.callbacks.CallbackList(
            list(callbacks), model=model, epochs=3, steps=8
        )

    def begin(self) -> None:
        self.callbacks.on_train_begin()

    def run(self) -> None:
        for epoch in range(3):
            self.callbacks.on_epoch_begin(epoch)
            for number, batch in enumerate(BATCHES):
                self.callbacks.on_train_batch_begin(number)
                loss = self.model.train_on_batch(*batch)
                self.callbacks.on_train_batch_end(number, {"loss": loss})
            self.callbacks.on_epoch_end(epoch)
        self.callbacks.on_train_end()


def test_a_loop_of_ones_own_with_a_list_of_callbacks() -> None:
    model, cycle = compiled(), OneCycle(0.1)
    loop = Loop(model, cycle)
    loop.begin()
    loop.run()
    reference.assert_same_weights(model, trained_eagerly(BATCHES * 3, 24))
    assert len(cycle.history["learning_rate"]) == 24
    assert type(model.optimizer) is type(keras.optimizers.SGD())


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_range_test_in_a_loop_of_ones_own_is_undone(interrupted: bool) -> None:
    def interrupt(model: keras.Model) -> None:
        raise KeyboardInterrupt

    model, finder = compiled(), LRFinder(num_steps=24, max_lr=0.1, stop_factor=None)
    before = model.get_weights()
    # Others set weights when training ends: the test is undone after them.
    spoil = keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: model.set_weights([w + 1 for w in before])
    )
    loop = Loop(model, finder, spoil, *([at_epoch(2, interrupt)] if interrupted else []))
    loop.begin()
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            loop.run()
        finder.restore()
    else:
        loop.run()
        wanted = LRFinder(num_steps=24, max_lr=0.1, stop_factor=None)
        fit(compiled(), wanted)
        np.testing.assert_allclose(finder.result.loss, wanted.result.loss, rtol=1e-5)
    for got, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, kept)


@pytest.mark.parametrize(
    "then",
    [
        lambda model: model.train_on_batch(*BATCHES[0]),
        lambda model: model.fit(*BATCHES[0], batch_size=8, verbose=0),
        lambda model: (
            model.make_train_function(force=True),
            model.train_on_batch(*BATCHES[0]),
        ),
    ],
)
def test_after_an_interrupted_fit_the_schedule_is_off(then: Callable) -> None:
    def interrupt(model: keras.Model) -> None:
        raise KeyboardInterrupt

    model, cycle = compiled(), OneCycle(0.1)
    # Kept, as a notebook keeps it: with the frame of `fit` in it.
    with pytest.raises(KeyboardInterrupt) as kept:
        fit(model, cycle, at_epoch(2, interrupt))
    assert kept.tb is not None
    assert len(cycle.history["learning_rate"]) == 16
    then(model)
    wanted = trained_eagerly(BATCHES * 2, 24)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(wanted.trainable_variables)
    for mine, its in zip(optimizer.variables, model.optimizer.variables, strict=True):
        assert mine.shape == its.shape
    assert len(cycle.history["learning_rate"]) == 16
    assert type(model.optimizer) is type(keras.optimizers.SGD())
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


def test_a_range_test_goes_on_where_a_callback_makes_the_function() -> None:
    arguments = {"batch_size": 8, "num_steps": 24, "max_lr": 0.1, "cycle_steps": 10}
    arguments |= {"verbose": 0, "shuffle": False}
    wanted = lr_find(compiled(), X, Y, **arguments)
    model = compiled()
    before = model.get_weights()
    again = at_epoch(2, lambda model: model.make_train_function(force=True))
    got = lr_find(model, X, Y, callbacks=[again], **arguments)
    np.testing.assert_allclose(got.loss, wanted.loss, rtol=1e-5)
    for weights, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, kept)


# History and logs


def test_changing_an_argument_does_not_rewrite_the_past() -> None:
    cycle = OneCycle(0.1)
    fit(compiled(), cycle)
    cycle.max_lr = 5.0
    assert cycle.history["learning_rate"].max() == pytest.approx(0.1, rel=0.1)


class OwnMomentum(keras.optimizers.SGD):
    """An optimizer that computes with a float of its own."""

    def __init__(self, learning_rate: float, momentum: float) -> None:
        super().__init__(learning_rate, momentum=momentum)
        self._own = momentum

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.momentum:
            gradient = gradient * (1 - self._own)
        self.assign_sub(variable, gradient * keras.ops.cast(learning_rate, gradient.dtype))


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (lambda: OwnMomentum(0.01, momentum=0.9), "momentum"),
        (lambda: keras.optimizers.Adagrad(0.01), "initial_accumulator_value"),
    ],
)
def test_what_the_update_does_not_use_is_told_and_not_shown(optimizer: Any, name: str) -> None:
    class Both(HyperparameterScheduler):
        def schedules(self, total_steps: int) -> dict[str, Callable]:
            return {"learning_rate": lambda step: 0.02, name: lambda step: 0.5}

    scheduler = Both()
    with pytest.warns(UserWarning, match=f"does not use `{name}`"):
        fit(compiled(optimizer()), scheduler)
    assert list(scheduler.history) == ["learning_rate"]


def test_a_step_that_was_traced_before_is_told() -> None:
    model = compiled()
    model.train_on_batch(*BATCHES[0])
    cycle = OneCycle(0.1, total_steps=8).attach(model.optimizer)
    model.train_on_batch(*BATCHES[0])
    model.train_on_batch(*BATCHES[1])
    with pytest.warns(UserWarning, match=r"traced before `attach`, so 2 updates did not follow"):
        cycle.detach()
    assert not cycle.history


def test_an_epoch_without_an_update_logs_no_value() -> None:
    seen: list[dict] = []
    later = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, gradient_accumulation_steps=12)
    fit(compiled(optimizer), OneCycle(0.1), later)
    assert ["learning_rate" in logs for logs in seen] == [False, True, True]


# Any float


class OfTheBackend(keras.optimizers.SGD):
    """An optimizer that hands its floats to functions of the backend."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        velocity = self.momentums[self._get_variable_index(variable)]
        if keras.backend.backend() == "jax":
            import jax.numpy as xp
        else:
            import tensorflow as xp
        kept = keras.ops.where(True, self.momentum, 0)
        moved = xp.multiply(velocity.value, self.momentum) * (kept / self.momentum)
        moved = moved - xp.multiply(gradient, keras.ops.cast(learning_rate, gradient.dtype))
        self.assign(velocity, moved)
        self.assign_add(variable, moved)


@pytest.mark.parametrize(
    ("make", "name", "high"),
    [
        (lambda value: keras.optimizers.SGD(0.05, clipvalue=value), "clipvalue", 0.1),
        (lambda value: keras.optimizers.SGD(0.05, global_clipnorm=value), "global_clipnorm", 0.1),
        (lambda value: keras.optimizers.SGD(0.05, weight_decay=value), "weight_decay", 0.1),
        (
            lambda value: keras.optimizers.Ftrl(0.05, l1_regularization_strength=value),
            "l1_regularization_strength",
            0.01,
        ),
        (lambda value: OfTheBackend(0.05, momentum=value), "momentum", 0.9),
    ],
)
def test_any_float_reaches_the_step(make: Callable, name: str, high: float) -> None:
    class Rise(HyperparameterScheduler):
        def schedules(self, total_steps: int) -> dict[str, Callable]:
            return {name: lambda step: high * (keras.ops.cast(step, "float32") + 1) / total_steps}

    model = compiled(make(high))
    fit(model, Rise(), epochs=1)
    wanted = reference.build()
    reference.train_eagerly(
        wanted,
        make(high),
        BATCHES,
        lambda optimizer, step: setattr(optimizer, name, high * (step + 1) / 8),
    )
    reference.assert_same_weights(model, wanted, rtol=1e-4, atol=1e-6)


def test_adafactor_that_caps_its_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="relative_step=False"):
        fit(compiled(keras.optimizers.Adafactor(0.01)), OneCycle(0.1, cycle_momentum=False))
    with pytest.raises(ValueError, match="relative_step=False"):
        lr_find(compiled(keras.optimizers.Adafactor(0.01)), X, Y, verbose=0)


def test_what_people_read_from_a_learning_rate_is_there_while_it_is_scheduled() -> None:
    model = compiled()
    with OneCycle(0.1, total_steps=8).attach(model):
        rate = model.optimizer.learning_rate
        assert float(rate) == float(rate.numpy()) == rate.value == pytest.approx(0.01)
        assert rate < 0.011
        assert rate.dtype == "float32"
        for value, wanted in ((rate, 0.02), (model.optimizer.momentum, 1.9)):
            doubled = keras.ops.convert_to_numpy(keras.ops.multiply(value, 2))
            assert doubled == pytest.approx(wanted)
        for set_rate in (
            lambda: rate.assign(0.003),
            lambda: setattr(model.optimizer, "learning_rate", 3e-3),
        ):
            with pytest.raises(ValueError, match=r"call `detach\(\)`.*learning_rate=0.003"):
                set_rate()


def test_a_model_that_takes_its_own_optimizers_is_not_blamed_for_keras_default() -> None:
    class Own(keras.Sequential):
        def compile(self, first: keras.Optimizer, **arguments: Any) -> None:
            super().compile(**arguments)
            self.first = first

    model = Own(reference.build().layers)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    with pytest.raises(ValueError, match=r"`RMSprop` that Keras makes.*`attach\(optimizer\)`"):
        fit(model, OneCycle(0.1))


def test_an_optimizer_without_a_learning_rate_in_its_config_is_named() -> None:
    class Bare(keras.optimizers.SGD):
        def get_config(self) -> dict:
            return {"momentum": 0.9}

    with pytest.raises(ValueError, match=r"`Bare.get_config\(\)` has no `learning_rate`"):
        fit(compiled(Bare(0.01, momentum=0.9)), OneCycle(0.1))
