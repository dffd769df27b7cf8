"""The largest batch that fits, found from real out-of-memory errors, and what the search leaves behind."""

import json
import subprocess
import sys
from typing import Any

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

import batch_size_model
import keras_onecycle.search.batch_size as batch_size
from keras_onecycle import OneCycle
from keras_onecycle._keras.out_of_memory import out_of_memory_message
from keras_onecycle.search import BatchSizeResult, find_batch_size


def assert_same_state(model: keras.Model, before: list[np.ndarray]) -> None:
    for got, kept in zip(batch_size_model.state(model), before, strict=True):
        np.testing.assert_array_equal(got, kept)


# What runs out of memory, and what is left behind


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is of Linux's kernel")
def test_memory_that_runs_out_ends_the_search_and_the_model_is_put_back() -> None:
    child = subprocess.run(
        [sys.executable, batch_size_model.__file__, "400000000"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert child.returncode == 0, child.stderr
    told = json.loads(child.stdout)
    assert told["batch_sizes"]
    assert told["out_of_memory"] == 2 * told["batch_sizes"][-1]
    assert told["restored"]
    assert told["same_function"]
    assert told["trained"]


# TensorFlow waits ten seconds for memory before it says that there is none.
@pytest.mark.any_backend
def test_what_no_machine_has_is_an_error_of_the_backend_and_leaves_no_trace() -> None:
    model = batch_size_model.build(batch_size_model.Huge())
    x, y = batch_size_model.data()
    model.train_on_batch(x[:1], y[:1])
    before = batch_size_model.state(model)
    with pytest.raises(
        ValueError,
        match=r"smallest batch .*(OOM|Out of memory|allocate memory).*Received: min_batch_size=2",
    ):
        find_batch_size(model, x, y, min_batch_size=2, verbose=0)
    assert_same_state(model, before)
    model.train_on_batch(x[:1], y[:1])
    assert all(np.isfinite(values).all() for values in batch_size_model.state(model))


def test_the_search_leaves_no_trace() -> None:
    x, y = batch_size_model.data()
    models = [batch_size_model.build(), batch_size_model.build()]
    for each in models:
        each.compile(
            keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"], steps_per_execution=4
        )
        each.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    model, twin = models
    history = model.history
    before, train_function = batch_size_model.state(model), model.train_function
    model.stop_training = True
    result = find_batch_size(model, x, y, min_batch_size=25, verbose=0)
    assert result.batch_sizes.tolist() == [25, 50]
    assert result.out_of_memory is None
    assert (result.step_times > 0).all()
    assert_same_state(model, before)
    assert model.train_function is train_function
    assert model.steps_per_execution == 4
    assert model.stop_training
    assert model.history is history
    for each in models:
        each.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    assert_same_state(model, batch_size_model.state(twin))


def test_a_model_that_was_not_trained_is_left_without_a_compiled_function(
    capsys: pytest.CaptureFixture,
) -> None:
    model = batch_size_model.build()
    weights = model.get_weights()
    find_batch_size(model, *batch_size_model.data(), min_batch_size=50)
    assert "Batches of 50: " in capsys.readouterr().out
    assert model.train_function is None
    assert int(model.optimizer.iterations.value) == 0
    for got, kept in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(got, kept)


@pytest.mark.any_backend
def test_the_model_is_put_back_after_an_exception(capsys: pytest.CaptureFixture) -> None:
    model = batch_size_model.build()
    x, y = batch_size_model.data()
    model.fit(x, y, verbose=0)
    before, train_function = batch_size_model.state(model), model.train_function
    train_on_batch = model.train_on_batch
    for error in (KeyboardInterrupt, ValueError):

        def interrupted(*arguments: Any, error: type[BaseException] = error) -> Any:
            train_on_batch(*arguments)
            raise error("Received: nothing about memory")

        model.train_on_batch = interrupted
        with pytest.raises(error, match="nothing about memory"):
            find_batch_size(model, x, y, min_batch_size=50, verbose=0)
        assert_same_state(model, before)
        assert model.train_function is train_function
    assert not capsys.readouterr().out


@pytest.mark.any_backend
def test_the_schedule_of_an_interrupted_fit_is_taken_off_for_good() -> None:
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            raise KeyboardInterrupt

    model = batch_size_model.build()
    x, y = batch_size_model.data()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, verbose=0, callbacks=[OneCycle(0.5), Interrupt()])
    find_batch_size(model, x, y, min_batch_size=50, verbose=0)
    twin = batch_size_model.build()
    twin.optimizer.build(twin.trainable_variables)
    for variable, values in zip(
        (*twin.variables, *twin.optimizer.variables),
        (*model.variables, *model.optimizer.variables),
        strict=True,
    ):
        variable.assign(np.array(keras.ops.convert_to_numpy(values)))
    for each in (model, twin):
        each.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    assert_same_state(model, batch_size_model.state(twin))


@pytest.mark.any_backend
@pytest.mark.parametrize("with_y", [True, False])
def test_data_of_several_arrays_is_repeated(with_y: bool) -> None:
    inputs = {
        "left": keras.Input((3,), name="left"),
        "right": keras.Input((2,), dtype="int32", name="right"),
    }
    right = keras.layers.Embedding(5, 2)(inputs["right"])
    joined = keras.layers.Concatenate()([inputs["left"], keras.layers.Flatten()(right)])
    seen = []

    class Recorder(keras.Model):
        def compute_loss(self, x: Any, y: Any, *rest: Any, **named: Any) -> Any:
            shapes = [tuple(leaf.shape) for leaf in (x["left"], x["right"], *(y or ()))]
            seen.append(shapes)
            return keras.ops.mean(self(x) if y is None else y[0] - self(x))

    model = Recorder(inputs, keras.layers.Dense(1)(joined))
    model.compile("sgd", run_eagerly=True)
    x = {"left": np.ones((3, 3)), "right": np.ones((3, 2), int)}
    y = (np.ones((3, 1)), np.ones((3, 4))) if with_y else None
    result = find_batch_size(model, x, y, min_batch_size=5, max_batch_size=7, verbose=0)
    assert result.batch_sizes.tolist() == [5, 7]
    shapes = [(3,), (2,), (1,), (4,)] if with_y else [(3,), (2,)]
    assert seen == [[(size, *shape) for shape in shapes] for size in (5, 7) for _ in range(4)]


# What an out-of-memory error is


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 268435456 bytes."), True),
        (ValueError("Exception encountered: RESOURCE_EXHAUSTED: Out of memory"), True),
        (RuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 5"), True),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"), True),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), True),
        (ValueError("Received: x of shape (3, 4)"), False),
        (RuntimeError("INTERNAL: Error dispatching computation"), False),
    ],
)
def test_errors_of_memory_are_told_apart(error: Exception, expected: bool) -> None:
    assert (out_of_memory_message(error) is not None) is expected


# The search


@pytest.mark.any_backend
@hypothesis.given(
    low=st.integers(1, 50),
    extra=st.integers(0, 5000),
    capacity=st.integers(0, 6000),
)
def test_doubling_then_bisection(low: int, extra: int, capacity: int) -> None:
    high, capacity = low + extra, low + capacity
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= capacity

    failed = batch_size._search(fits, low, high)
    fitted = [size for size in tried if size <= capacity]
    assert len(set(tried)) == len(tried)
    assert low <= min(tried)
    assert max(tried) <= high
    if capacity >= high:
        assert failed is None
        assert max(fitted) == high
    else:
        assert failed == min(set(tried) - set(fitted))
        assert failed - max(fitted) <= max(1, 0.05 * max(fitted))
    assert len(tried) <= 2 + 2 * np.ceil(np.log2(high / low + 1)) + np.log2(low)


# The result


def result() -> BatchSizeResult:
    return BatchSizeResult([8, 16, 32, 48], [0.01, 0.011, 0.02, 0.04], out_of_memory=64)


@pytest.mark.any_backend
def test_the_result_says_where_it_stops_to_pay() -> None:
    seen = result()
    np.testing.assert_allclose(seen.throughputs, [800, 1454.5454, 1600, 1200], rtol=1e-6)
    assert seen.suggest() == 32
    assert BatchSizeResult([8, 16], [0.01, 0.021]).suggest() == 8
    assert seen.largest == 48


# Arguments


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return batch_size_model.build()


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": keras.Sequential()}, "`model` must be.*compiled.*Received: model="),
        ({"model": "model"}, "`model` must be.*Received: model='model'"),
        ({"x": iter([1])}, "must be arrays.*Received: .*list_iterator"),
        ({"y": "targets"}, "must be arrays.*Received: 'targets'"),
        ({"y": np.ones((49, 1))}, r"as many samples.*Received: arrays of \[49, 50\]"),
        ({"x": np.ones((0, 4)), "y": None}, r"at least one.*Received: arrays of \[0\]"),
        ({"min_batch_size": 0}, "Received: min_batch_size=0"),
        ({"max_batch_size": 2.0}, "integer.*Received: max_batch_size=2.0"),
        ({"min_batch_size": 8, "max_batch_size": 7}, "at least 8.*Received: max_batch_size=7"),
    ],
    ids=lambda value: None if isinstance(value, str) else ",".join(value),
)
def test_a_wrong_argument_is_named_before_anything_is_tried(
    model: keras.Model, arguments: dict, message: str
) -> None:
    x, y = batch_size_model.data()
    with pytest.raises((TypeError, ValueError), match=message):
        find_batch_size(**{"model": model, "x": x, "y": y, "verbose": 0, **arguments})
    assert not model.optimizer.built
    assert model.train_function is None


@pytest.mark.any_backend
def test_a_model_without_optimizer_or_not_built_is_refused() -> None:
    x, y = batch_size_model.data()
    model = batch_size_model.build()
    model.compile(optimizer=None, loss="mse")
    with pytest.raises(ValueError, match="optimizer"):
        find_batch_size(model, x, y)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must be built"):
        find_batch_size(model, x, y)


def test_a_distributed_model_is_refused() -> None:
    x, y = batch_size_model.data()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            model = batch_size_model.build()
        with pytest.raises(ValueError, match="distributed"):
            find_batch_size(model, x, y)
        return
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    try:
        model = batch_size_model.build()
        with pytest.raises(ValueError, match="distributed"):
            find_batch_size(model, x, y)
    finally:
        keras.distribution.set_distribution(None)
