"""The range test: the curve it sees, where it stops, and that it leaves no trace."""

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest

import reference
from keras_onecycle import LRFinder, OneCycle, RangeTestResult
from keras_onecycle import lr_find as find
from keras_onecycle.range_tests._range_test import MAX_SKIPPED_BATCHES

# The range test alone: the short cycles after it are in test_short_cycles.
lr_find = partial(find, cycle_steps=0)


def compiled(
    optimizer: keras.Optimizer | None = None, *layers: keras.layers.Layer, **arguments: Any
) -> keras.Model:
    model = reference.build(*layers)
    model.compile(
        optimizer or keras.optimizers.SGD(0.01, momentum=0.9),
        loss="mse",
        metrics=["mae"],
        **arguments,
    )
    return model


def losses_and_weights(
    make: Callable[[], keras.Optimizer], batches: list, rates: np.ndarray
) -> tuple[np.ndarray, keras.Model]:
    """The loss of each update before it is made, by an eager optimizer."""
    model = reference.build()
    losses: list[float] = []
    optimizer = make()
    accumulation = optimizer.gradient_accumulation_steps or 1

    def set_floats(plain: keras.Optimizer, update: int) -> None:
        x, y = batches[len(losses)]
        losses.append(float(np.mean((reference.forward(model, x) - y) ** 2)))
        plain.learning_rate = rates[update]

    reference.train_eagerly(model, optimizer, batches, set_floats)
    return np.array(losses).reshape(-1, accumulation).mean(axis=1), model


def state(model: keras.Model) -> list[np.ndarray]:
    groups = (model.variables, model.optimizer.variables, model.metrics_variables)
    return [
        np.array(keras.ops.convert_to_numpy(variable)) for group in groups for variable in group
    ]


def assert_same_state(model: keras.Model, before: list[np.ndarray]) -> None:
    for got, kept in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(got, kept)


# The curve


@pytest.mark.parametrize(
    ("mode", "min_lr", "rates", "steps_per_execution"),
    [
        ("exponential", 1e-5, np.geomspace(1e-5, 0.1, 20), 1),
        ("linear", 0.0, np.linspace(0, 0.1, 20), 4),
    ],
)
def test_each_point_is_the_loss_of_one_batch(
    mode: str, min_lr: float, rates: np.ndarray, steps_per_execution: int
) -> None:
    # 8 batches: the data is gone over two and a half times.
    x, y = reference.data(64)
    model = compiled(steps_per_execution=steps_per_execution)
    result = lr_find(
        model,
        x,
        y,
        batch_size=8,
        shuffle=False,
        min_lr=min_lr,
        max_lr=0.1,
        num_steps=20,
        mode=mode,
        stop_factor=None,
        verbose=0,
    )
    batches = (reference.split(x, y, 8) * 3)[:20]
    losses, _ = losses_and_weights(lambda: keras.optimizers.SGD(0.01, momentum=0.9), batches, rates)
    np.testing.assert_allclose(result.lr, rates, rtol=1e-5)
    np.testing.assert_allclose(result.loss, losses, rtol=1e-4)
    assert isinstance(result, RangeTestResult)
    assert result.mode == mode
    assert model.steps_per_execution == steps_per_execution


class OfTheClass(keras.Sequential):
    """A model whose train function is made of the method of the class, whatever the object has."""

    def make_train_function(self, force: bool = False) -> Any:
        vars(self).pop("train_step", None)
        return super().make_train_function(force=force)


class WithIdleMetric(keras.Sequential):
    """A model with a metric that its train step resets and does not update."""

    def __init__(self, layers: list[keras.layers.Layer]) -> None:
        super().__init__(layers)
        self.idle = keras.metrics.Mean(name="idle")


@pytest.mark.parametrize(
    ("kind", "run_eagerly"), [(OfTheClass, False), (WithIdleMetric, False), (WithIdleMetric, True)]
)
def test_each_point_is_of_one_batch_in_other_models(
    kind: type[keras.Sequential], run_eagerly: bool
) -> None:
    x, y = reference.data(48)
    model = kind([keras.Input((4,)), *reference.build().layers])
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss="mse",
        metrics=["mae"],
        run_eagerly=run_eagerly,
    )
    rates = {"min_lr": 1e-3, "max_lr": 0.1, "num_steps": 12, "stop_factor": None}
    result = lr_find(model, x, y, batch_size=8, shuffle=False, verbose=0, **rates)
    batches = reference.split(x, y, 8) * 2
    losses, _ = losses_and_weights(
        lambda: keras.optimizers.SGD(0.01, momentum=0.9), batches, np.geomspace(1e-3, 0.1, 12)
    )
    np.testing.assert_allclose(result.loss, losses, rtol=1e-4)


def test_the_model_is_left_to_itself_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each of these takes about a millisecond for a hundred variables, and a step may take ten.
    calls: list[str] = []
    model = compiled()
    for name in ("reset_metrics", "jax_state_sync"):
        if hasattr(keras.Model, name):
            called = getattr(keras.Model, name)
            monkeypatch.setattr(
                keras.Model,
                name,
                lambda self, name=name, called=called: (calls.append(name), called(self))[1],
            )

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            seen.append(list(calls))
            calls.clear()

    seen: list[list[str]] = []
    x, y = reference.data(64)
    once = {"batch_size": 8, "num_steps": 8, "stop_factor": None, "verbose": 0}
    lr_find(model, x, y, callbacks=[Look()], **once)
    # In the first the step is traced, after the last the test ends.
    assert seen[1:-1] == 6 * [[]]


def test_under_gradient_accumulation_a_point_is_the_mean_of_its_batches() -> None:
    x, y = reference.data(96)

    def make() -> keras.Optimizer:
        return keras.optimizers.SGD(0.01, momentum=0.9, gradient_accumulation_steps=3)

    result = lr_find(
        compiled(make()),
        x,
        y,
        batch_size=8,
        shuffle=False,
        min_lr=1e-3,
        max_lr=0.1,
        num_steps=6,
        stop_factor=None,
        verbose=0,
    )
    batches = (reference.split(x, y, 8) * 2)[:18]
    losses, _ = losses_and_weights(make, batches, np.geomspace(1e-3, 0.1, 6))
    np.testing.assert_allclose(result.loss, losses, rtol=1e-4)


@pytest.mark.any_backend
def test_it_smooths_the_loss_and_stops_when_it_diverges() -> None:
    x, y = reference.data(64)
    result = lr_find(compiled(), x, y, batch_size=8, max_lr=1e3, smoothing=0.5, verbose=0)
    # The weighted mean of all losses so far, written out.
    for point in (0, 1, 7, len(result.loss) - 1):
        weights = 0.5 ** np.arange(point, -1, -1)
        wanted = np.average(result.loss[: point + 1], weights=weights)
        np.testing.assert_allclose(result.smoothed_loss[point], wanted, rtol=1e-9)
    # The rule as the docstring has it, point by point.
    over = [
        point >= 10
        and result.smoothed_loss[point] > 4 * result.smoothed_loss[10 : point + 1].min()
        and result.loss[point - 4 : point + 1].min()
        > 4 * result.smoothed_loss[10 : point + 1].min()
        for point in range(len(result.loss))
    ]
    assert len(result.loss) < 100
    assert over[-1]
    assert not any(over[:-1])


@pytest.mark.any_backend
def test_it_stops_at_nan_unless_told_never_to() -> None:
    x, y = reference.data(64)
    y[16:24] = np.nan
    arguments = {"batch_size": 8, "num_steps": 20, "shuffle": False, "verbose": 0}
    result = lr_find(compiled(), x, y, **arguments)
    assert len(result.loss) == 3
    assert np.isnan(result.loss[-1])
    result = lr_find(compiled(), x, y, stop_factor=None, **arguments)
    assert len(result.loss) == 20
    assert np.isfinite(result.loss[:2]).all()


def shifted(loss: Callable) -> keras.Model:
    model = reference.build()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss=loss)
    return model


@pytest.mark.any_backend
def test_losses_below_zero_stop_it_only_when_they_diverge() -> None:
    x, y = reference.data(64)
    square = keras.losses.mean_squared_error
    for loss in (lambda y, p: keras.ops.mean(square(y, p)) - 5.0, lambda y, p: square(y, p) - 0.3):
        model = shifted(loss)
        result = lr_find(model, x, y, batch_size=8, max_lr=1e3, smoothing=0.5, verbose=0)
        smoothed = result.smoothed_loss
        assert 50 < len(smoothed) < 100
        assert smoothed[:-1].max() - smoothed.min() < smoothed[-1] - smoothed.min()
    cosine = lr_find(shifted(keras.losses.CosineSimilarity()), x, x[:, :1], verbose=0)
    assert len(cosine.loss) > 50


def test_a_train_step_with_another_optimizer_is_told() -> None:
    x, y = reference.data(64)
    model = reference.TrainedElsewhere(reference.build().layers)
    model.compile("sgd", loss="mse")
    with pytest.warns(UserWarning, match=r"`train_step` made none with `model\.optimizer`"):
        lr_find(model, x, y, batch_size=8, verbose=0)


@pytest.mark.any_backend
def test_a_test_whose_updates_are_all_skipped_ends() -> None:
    x, y = reference.data(64)
    model = compiled(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01)))
    before = model.get_weights()
    with pytest.warns(UserWarning, match=f"0 of 100 updates.*last {MAX_SKIPPED_BATCHES} batches"):
        result = lr_find(model, x, y * np.inf, batch_size=8, stop_factor=None, verbose=0)
    assert len(result.loss) == 0
    for got, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, kept)
    with pytest.raises(ValueError, match="Received: 0 points"):
        result.suggest()


def test_skipped_updates_are_no_points() -> None:
    x, y = reference.data(64)
    batches = reference.split(x, y, 8)
    y = y.copy()
    y[8:16] = np.inf
    wrapped = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01, momentum=0.9))
    result = lr_find(
        compiled(wrapped),
        x,
        y,
        batch_size=8,
        shuffle=False,
        min_lr=1e-3,
        max_lr=0.1,
        num_steps=7,
        verbose=0,
    )
    kept = [batch for i, batch in enumerate(batches) if i != 1]
    losses, _ = losses_and_weights(
        lambda: keras.optimizers.SGD(0.01, momentum=0.9), kept, np.geomspace(1e-3, 0.1, 7)
    )
    np.testing.assert_allclose(result.loss, losses, rtol=1e-4)


@pytest.mark.any_backend
def test_validation_along_the_way() -> None:
    x, y = reference.data(80)
    x, y, val_x, val_y = x[:64], y[:64], x[64:], y[64:]
    arguments = {
        "batch_size": 8,
        "shuffle": False,
        "min_lr": 1e-3,
        "max_lr": 0.1,
        "num_steps": 16,
        "stop_factor": None,
        "verbose": 0,
    }
    model = compiled(steps_per_execution=4)
    result = lr_find(model, x, y, validation_data=(val_x, val_y), validation_freq=5, **arguments)
    rates = np.geomspace(1e-3, 0.1, 16)
    np.testing.assert_allclose(result.val_lr, rates[[4, 9, 14, 15]], rtol=1e-5)
    for point, updates in enumerate((5, 10, 15, 16)):
        batches = (reference.split(x, y, 8) * 2)[:updates]
        _, trained = losses_and_weights(
            lambda: keras.optimizers.SGD(0.01, momentum=0.9), batches, rates
        )
        error = reference.forward(trained, val_x) - val_y
        np.testing.assert_allclose(result.val_loss[point], np.mean(error**2), rtol=1e-4)
        np.testing.assert_allclose(
            result.val_metrics["mae"][point], np.mean(np.abs(error)), rtol=1e-4
        )
    plain = lr_find(model, x, y, **arguments)
    np.testing.assert_array_equal(plain.loss, result.loss)
    some = lr_find(
        model,
        x,
        y,
        validation_data=(val_x, val_y),
        validation_freq=16,
        validation_steps=1,
        validation_batch_size=4,
        **arguments,
    )
    error = reference.forward(trained, val_x[:4]) - val_y[:4]
    np.testing.assert_allclose(some.val_loss, [np.mean(error**2)], rtol=1e-4)


# No trace


OPTIMIZERS: dict[str, Callable[[], keras.Optimizer]] = {
    "AdamW ema": lambda: keras.optimizers.AdamW(0.01, use_ema=True),
    "SGD accumulation": lambda: keras.optimizers.SGD(
        0.01, momentum=0.9, gradient_accumulation_steps=3
    ),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01, momentum=0.9), initial_scale=4.0, dynamic_growth_steps=3
    ),
}


def noisy() -> list[keras.layers.Layer]:
    return [keras.layers.BatchNormalization(), keras.layers.Dropout(0.3, seed=3)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_trace(name: str) -> None:
    x, y = reference.data(64)
    model = compiled(OPTIMIZERS[name](), *noisy())
    if "ema" in name and keras.backend.backend() == "jax":
        # Keras on JAX cannot fit twice with `use_ema`: it donates one buffer twice.
        model.optimizer.build(model.trainable_variables)
    else:
        model.fit(x, y, batch_size=8, verbose=0)
    before = state(model)
    result = lr_find(model, x, y, batch_size=8, num_steps=20, max_lr=100.0, verbose=0)
    assert len(result.loss) > 5
    for got, kept in zip(state(model)[: len(before)], before, strict=True):
        np.testing.assert_array_equal(got, kept)


def test_fit_afterwards_is_as_without() -> None:
    x, y = reference.data(64)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}

    def trained(with_test: bool) -> keras.Model:
        model = compiled(None, *noisy(), steps_per_execution=2)
        history = model.fit(x, y, **fit)
        model.stop_training = True
        if with_test:
            lr_find(model, x, y, batch_size=8, num_steps=20, max_lr=100.0, verbose=0)
            assert model.stop_training
            assert model.history is history
            assert model.steps_per_execution == 2
        model.fit(x, y, callbacks=[OneCycle(0.03)], **fit)
        return model

    assert_same_state(trained(with_test=True), state(trained(with_test=False)))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x, x]])
def test_a_model_that_is_not_built(wrap: Callable) -> None:
    x, y = reference.data(64)

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = keras.layers.Dense(5), keras.layers.Dense(1)

        def call(self, x: Any, training: bool = False) -> Any:
            x = x[0] if isinstance(x, (list, tuple)) else x
            noise = keras.random.normal(keras.ops.shape(x), seed=self.seed)
            return self.out(self.hidden(x + noise))

    def trained(with_test: bool) -> keras.Model:
        keras.utils.set_random_seed(1)
        model = Net()
        model.seed = keras.random.SeedGenerator(3)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
        if with_test:
            lr_find(model, wrap(x), y, batch_size=8, num_steps=10, verbose=0)
            assert not model.stop_training
            assert "history" not in vars(model)
        model.fit(wrap(x), y, batch_size=8, shuffle=False, verbose=0)
        return model

    assert_same_state(trained(with_test=True), state(trained(with_test=False)))


class Interrupt(keras.callbacks.Callback):
    def __init__(self, batch: int, error: type[BaseException]) -> None:
        super().__init__()
        self.batch, self.error, self.seen = batch, error, 0

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.seen += 1
        if self.seen == self.batch:
            raise self.error


@pytest.mark.parametrize(("batch", "error"), [(1, KeyboardInterrupt), (11, RuntimeError)])
def test_no_trace_after_an_exception(batch: int, error: type[BaseException]) -> None:
    x, y = reference.data(64)
    model = compiled(None, *noisy())
    model.fit(x, y, batch_size=8, verbose=0)
    before = state(model)
    with pytest.raises(error):
        lr_find(model, x, y, batch_size=8, verbose=0, callbacks=[Interrupt(batch, error)])
    assert_same_state(model, before)
    assert type(model.optimizer) is type(keras.optimizers.SGD())
    model.fit(x, y, batch_size=8, verbose=0)


def test_no_trace_after_an_error_inside_the_first_step() -> None:
    x, y = reference.data(64)
    model = compiled()
    model.fit(x, y, batch_size=8, verbose=0)
    before = state(model)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield x[:8], y[:8]
        yield x[:8, :3], y[:8]

    with pytest.raises(Exception):  # noqa: B017 - each backend has its own.
        lr_find(model, batches(), verbose=0)
    assert_same_state(model, before)
    model.fit(x, y, batch_size=8, verbose=0)


# As a callback


@pytest.mark.any_backend
def test_the_callback_in_a_fit_of_ones_own() -> None:
    x, y = reference.data(64)
    model = compiled()
    model.fit(x, y, batch_size=8, verbose=0)
    before = state(model)
    finder = LRFinder(num_steps=20, stop_factor=None, max_lr=0.1)
    model.fit(x, y, batch_size=8, epochs=9, verbose=0, callbacks=[finder])
    assert_same_state(model, before)
    assert not model.stop_training
    assert len(finder.result.loss) == 20
    short = LRFinder(num_steps=20, max_lr=0.1)
    with pytest.warns(UserWarning, match=r"after 8 of 20 updates.*`epochs`.*`lr_find`"):
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[short])
    assert len(short.result.loss) == 8
    assert_same_state(model, before)


def test_restore_after_ctrl_c_in_a_fit_of_ones_own() -> None:
    x, y = reference.data(64)
    model = compiled(steps_per_execution=2)
    model.fit(x, y, batch_size=8, verbose=0)
    before = state(model)
    finder = LRFinder(max_lr=0.1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            x, y, batch_size=8, verbose=0, callbacks=[finder, Interrupt(3, KeyboardInterrupt)]
        )
    finder.restore()
    finder.restore()
    assert_same_state(model, before)
    assert model.steps_per_execution == 2
    assert type(model.optimizer) is type(keras.optimizers.SGD())


def interrupted(steps_per_execution: int = 1) -> tuple[keras.Model, LRFinder]:
    x, y = reference.data(64)
    model, finder = compiled(steps_per_execution=steps_per_execution), LRFinder(max_lr=0.1)
    callbacks = [finder, Interrupt(3, KeyboardInterrupt)]
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=8, verbose=0, callbacks=callbacks)
    return model, finder


@pytest.mark.any_backend
def test_training_after_an_interrupted_test_is_not_undone() -> None:
    x, y = reference.data(64)
    model, finder = interrupted(steps_per_execution=2)
    batches: list[int] = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batches.append(batch)
    )
    with pytest.warns(UserWarning, match=r"continues with the weights.*`finder\.restore\(\)`"):
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[count])
    assert type(model.optimizer) is type(keras.optimizers.SGD())
    assert model.steps_per_execution == 2
    assert batches == [1, 3, 5, 7]
    before = state(model)
    finder.restore()
    model.fit(x, y, batch_size=8, epochs=30, verbose=0, callbacks=[finder])
    assert len(finder.result.loss) > 5
    assert_same_state(model, before)


@pytest.mark.any_backend
def test_the_same_test_again_after_an_interruption_begins_where_the_first_did() -> None:
    x, y = reference.data(64)
    model, finder = interrupted()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*continues with the weights")
        model.fit(x, y, batch_size=8, epochs=30, verbose=0, callbacks=[finder])
    for got, wanted in zip(model.get_weights(), reference.build().get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert int(np.array(keras.ops.convert_to_numpy(model.optimizer.variables[0]))) == 0


def test_an_unbuilt_model_is_named_by_the_callback() -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("JAX builds the model before any callback")
    x, y = reference.data(64)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"must be built.*keras\.Input"):
        model.fit(x, y, verbose=0, callbacks=[LRFinder()])
    model.fit(x, y, verbose=0)


@pytest.mark.any_backend
def test_the_finder_pickles_copies_and_is_used_twice() -> None:
    x, y = reference.data(64)
    finder = LRFinder(num_steps=10)
    compiled().fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[finder])
    for copied in (pickle.loads(pickle.dumps(finder)), copy.deepcopy(finder)):
        np.testing.assert_array_equal(copied.result.loss, finder.result.loss)
    first = finder.result
    compiled().fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[finder])
    np.testing.assert_allclose(finder.result.lr, first.lr)


def test_beside_one_cycle_it_is_refused_without_a_trace() -> None:
    x, y = reference.data(64)
    model = compiled()
    model.fit(x, y, batch_size=8, verbose=0)
    before = state(model)
    with pytest.raises(ValueError, match=r"already follows .*`OneCycle`.*`LRFinder`"):
        model.fit(x, y, verbose=0, callbacks=[OneCycle(0.1), LRFinder()])
    model.reset_metrics()
    for got, kept in zip(state(model)[: len(model.variables)], before, strict=False):
        np.testing.assert_array_equal(got, kept)


# Data of every kind


@pytest.mark.any_backend
def test_datasets_and_generators() -> None:
    x, y = reference.data(64)

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return x[index * 8 :][:8], y[index * 8 :][:8]

    def forever() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            yield from reference.split(x, y, 8)

    arguments = {"num_steps": 20, "max_lr": 0.1, "verbose": 0, "stop_factor": None}
    wanted = lr_find(compiled(), x, y, batch_size=8, shuffle=False, **arguments)
    kinds: list[Any] = [Batches(), forever()]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        kinds.append(tf.data.Dataset.from_tensor_slices((x, y)).batch(8))
    for data in kinds:
        got = lr_find(compiled(), data, shuffle=False, **arguments)
        np.testing.assert_allclose(got.loss, wanted.loss, rtol=1e-5)


def test_a_generator_that_ends_ends_the_test() -> None:
    x, y = reference.data(64)
    batches = (batch for batch in reference.split(x, y, 8)[:6])
    with pytest.warns(UserWarning, match=r"after 6 of 20 updates.*a generator must"):
        result = lr_find(compiled(), batches, num_steps=20, max_lr=0.1, verbose=0)
    assert len(result.loss) == 6


@pytest.mark.any_backend
def test_a_dataset_without_batches_ends_the_test() -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data may not be installed")
    import tensorflow as tf

    x, y = reference.data(64)
    model = compiled()
    model.fit(x, y, verbose=0)
    nothing = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).take(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = lr_find(model, nothing, verbose=0)
    assert len(result.loss) == 0
    assert any("0 of 100 updates" in str(warning.message) for warning in caught)


@pytest.mark.any_backend
def test_the_progress_bar_counts_updates(capsys: pytest.CaptureFixture) -> None:
    x, y = reference.data(64)
    lr_find(compiled(), x, y, batch_size=8, num_steps=12, stop_factor=None, max_lr=0.1)
    out = capsys.readouterr().out
    assert "12/12" in out
    assert "learning_rate" in out
    lr_find(compiled(), x, y, batch_size=8, num_steps=12, max_lr=0.1, verbose=0)
    assert capsys.readouterr().out == ""


# Bad input

BAD = [
    ("min_lr", 0.0, ValueError),
    ("min_lr", -1e-6, ValueError),
    ("min_lr", float("nan"), ValueError),
    ("min_lr", "small", TypeError),
    ("max_lr", 1e-7, ValueError),
    ("max_lr", float("inf"), ValueError),
    ("num_steps", 1, ValueError),
    ("num_steps", 2**31, ValueError),
    ("num_steps", 10.5, TypeError),
    ("mode", "log", ValueError),
    ("mode", None, TypeError),
    ("stop_factor", 1.0, ValueError),
    ("stop_factor", float("nan"), ValueError),
    ("smoothing", 1.0, ValueError),
    ("smoothing", -0.1, ValueError),
    ("validation_freq", 5, ValueError),
    ("validation_steps", 0, ValueError),
    ("validation_data", iter([(1, 2)]), ValueError),
]


@pytest.mark.any_backend
@pytest.mark.parametrize(("name", "value", "error"), BAD)
def test_bad_arguments_are_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"`{name}`.*Received: .*{name}="):
        LRFinder(**{name: value})


@pytest.mark.any_backend
def test_lr_find_names_bad_arguments_before_it_trains() -> None:
    x, y = reference.data(16)
    model = compiled()
    before = model.get_weights()
    for name, value, error in BAD:
        with pytest.raises(error, match=f"`{name}`.*Received: .*{name}="):
            lr_find(model, x, y, **{name: value})
    for got, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, kept)


@pytest.mark.any_backend
# Of other libraries, of nobody, and those of `fit` that are not for a test.
@pytest.mark.parametrize(
    "name", ["start_lr", "num_iter", "batchsize", "epochs", "initial_epoch", "validation_split"]
)
def test_an_argument_that_is_unknown_is_named_with_what_there_is(name: str) -> None:
    takes = r"\. It takes model, .*min_lr, max_lr.*, and of `fit` batch_size.*"
    wanted = f"^`lr_find` has no argument `{name}`{takes}Received: {name}=3$"
    with pytest.raises(TypeError, match=wanted):
        lr_find(compiled(), *reference.data(16), **{name: 3})


@pytest.mark.any_backend
def test_lr_find_names_what_it_cannot_take() -> None:
    x, y = reference.data(16)
    with pytest.raises(TypeError, match="model='model'"):
        lr_find("model", x, y)
    with pytest.raises(ValueError, match="compiled with an optimizer"):
        lr_find(reference.build(), x, y)
    for verbose in ("loud", None, 7):
        with pytest.raises(ValueError, match=r"`verbose` must be .*Received: verbose="):
            lr_find(compiled(), x, y, verbose=verbose)
    without = reference.build()
    without.compile(optimizer=None, loss="mse")
    with pytest.raises(ValueError, match="compiled with an optimizer"):
        lr_find(without, x, y)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(ValueError, match="already has a learning rate schedule"):
        lr_find(compiled(keras.optimizers.SGD(schedule)), x, y)
    model = keras.Model()
    model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"not built.*`model\.built = True`"):
        lr_find(model, x, y, verbose=0)
