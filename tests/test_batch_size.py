"""The largest batch that fits, found from real out-of-memory errors, and what the search leaves behind."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import strategies as st

import batch_size_model
import keras_onecycle.search.batch_size as batch_size
from keras_onecycle import OneCycle
from keras_onecycle._keras import backend
from keras_onecycle.search import BatchSizeResult, find_batch_size, scale_lr
from keras_onecycle.search.memory import available_memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")


def process(*arguments: Any) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, batch_size_model.__file__, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_same_state(model: keras.Model, before: list[np.ndarray]) -> None:
    for got, kept in zip(batch_size_model.state(model), before, strict=True):
        np.testing.assert_array_equal(got, kept)


# In child processes


@pytest.fixture(scope="module")
def held() -> int:
    """The bytes that a process holds before it trains, as the error says of a limit too small for it."""
    model = batch_size_model.build()
    message = r"smallest batch.*held (\d{9,}) bytes.*Received: min_batch_size=1, memory_limit=1000"
    with pytest.raises(ValueError, match=message) as raised:
        find_batch_size(model, *batch_size_model.data(), memory_limit=1000, verbose=0)
    return int(re.search(message, str(raised.value)).group(1))


@linux
def test_the_largest_batch_under_a_limit_fits_and_the_next_does_not(held: int) -> None:
    limit = held + 450_000_000
    model = batch_size_model.build(batch_size_model.Pairs())
    weights = model.get_weights()
    result = find_batch_size(
        model,
        *batch_size_model.data(),
        min_batch_size=2048,
        max_batch_size=2**14,
        memory_limit=limit,
        tolerance=0.5,
        steps=1,
        verbose=0,
    )
    assert result.limited_by == "memory"
    assert result.largest < result.out_of_memory <= 1.5 * result.largest
    # What a compiler takes besides differs by some tens of megabytes from one process to the next.
    fits = process("train", limit + 150_000_000, result.largest)
    does_not = process("train", limit - 150_000_000, result.out_of_memory)
    for child in (fits, does_not):
        child.communicate()
    assert fits.returncode == 0
    assert does_not.returncode != 0
    # The copy was trained, not the model.
    assert not model.optimizer.built
    assert model.train_function is None
    for got, kept in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(got, kept)


@linux
@pytest.mark.any_backend
def test_a_child_that_the_kernel_kills_was_out_of_memory() -> None:
    model = batch_size_model.build(batch_size_model.Killed())
    x, y = batch_size_model.data()
    # Without a limit of its own, on a CPU: in child processes.
    result = find_batch_size(model, x[:16], y[:16], min_batch_size=8, tolerance=1, verbose=0)
    assert result.batch_sizes.tolist() == [8]
    assert result.out_of_memory == 16


@linux
@pytest.mark.any_backend
def test_an_error_that_more_memory_prevents_was_out_of_memory(held: int) -> None:
    model = batch_size_model.build(batch_size_model.Silent())
    result = find_batch_size(
        model,
        *batch_size_model.data(),
        min_batch_size=8,
        max_batch_size=16,
        memory_limit=held + 450_000_000,
        tolerance=1,
        verbose=0,
    )
    assert result.batch_sizes.tolist() == [8]
    assert result.out_of_memory == 16


@pytest.mark.any_backend
def test_another_failure_of_the_child_is_raised_with_its_text() -> None:
    model = batch_size_model.build(batch_size_model.Wrong())
    with pytest.raises(RuntimeError, match=r"(?s)exit status 1.*no training today"):
        find_batch_size(model, *batch_size_model.data(), verbose=0)


@pytest.mark.any_backend
def test_a_model_that_a_child_cannot_load_is_told() -> None:
    class Local(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

    Local.__module__ = "__main__"
    model = batch_size_model.build(Local())
    with pytest.raises(
        ValueError, match=r"(?s)in a module.*in_process=True.*Local.*Received: model="
    ):
        find_batch_size(model, *batch_size_model.data(), verbose=0)


@pytest.mark.any_backend
def test_a_model_that_cannot_be_saved_is_told() -> None:
    class Unsaved(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

        def get_config(self) -> dict:
            raise NotImplementedError

    model = batch_size_model.build(Unsaved())
    with pytest.raises(ValueError, match=r"cannot be saved.*in_process=True"):
        find_batch_size(model, *batch_size_model.data(), verbose=0)


# In this process


@linux
def test_a_process_is_usable_after_it_ran_out_of_memory() -> None:
    child = process("find", 350_000_000)
    out, err = child.communicate()
    assert child.returncode == 0, err
    told = json.loads(out)
    assert told["batch_sizes"]
    assert told["out_of_memory"] == 2 * told["batch_sizes"][-1]
    assert told["restored"]
    assert told["same_function"]
    assert told["trained"]


def test_what_no_machine_has_is_an_error_of_the_backend_and_leaves_no_trace() -> None:
    model = batch_size_model.build(batch_size_model.Huge())
    x, y = batch_size_model.data()
    model.train_on_batch(x[:1], y[:1])
    before = batch_size_model.state(model)
    with pytest.raises(
        ValueError, match=r"smallest batch .*(OOM|Out of memory).*Received: min_batch_size=2"
    ):
        find_batch_size(model, x, y, min_batch_size=2, in_process=True, verbose=0)
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
    result = find_batch_size(model, x, y, min_batch_size=25, in_process=True, steps=2, verbose=0)
    assert result.batch_sizes.tolist() == [25, 50]
    assert result.limited_by == "max_batch_size"
    assert (result.step_times > 0).all()
    assert_same_state(model, before)
    assert model.train_function is train_function
    assert model.steps_per_execution == 4
    assert model.stop_training
    assert model.history is history
    for each in models:
        each.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    assert_same_state(model, batch_size_model.state(twin))


def test_a_model_that_was_not_trained_is_left_without_a_compiled_function() -> None:
    model = batch_size_model.build()
    weights = model.get_weights()
    find_batch_size(model, *batch_size_model.data(), min_batch_size=50, in_process=True, verbose=0)
    assert model.train_function is None
    assert int(model.optimizer.iterations.value) == 0
    for got, kept in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(got, kept)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_model_is_put_back_after_an_exception(error: type[BaseException]) -> None:
    model = batch_size_model.build()
    x, y = batch_size_model.data()
    model.fit(x, y, verbose=0)
    before, train_function = batch_size_model.state(model), model.train_function
    train_on_batch = model.train_on_batch

    def interrupted(*arguments: Any) -> Any:
        train_on_batch(*arguments)
        raise error("Received: nothing about memory")

    model.train_on_batch = interrupted
    with pytest.raises(error, match="nothing about memory"):
        find_batch_size(model, x, y, in_process=True, verbose=0)
    assert_same_state(model, before)
    assert model.train_function is train_function


def test_the_schedule_of_an_interrupted_fit_is_taken_off_for_good() -> None:
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            raise KeyboardInterrupt

    model = batch_size_model.build()
    x, y = batch_size_model.data()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, verbose=0, callbacks=[OneCycle(0.5), Interrupt()])
    find_batch_size(model, x, y, min_batch_size=50, in_process=True, verbose=0)
    twin = batch_size_model.build()
    twin.optimizer.build(twin.trainable_variables)
    for variable, values in zip(
        (*twin.variables, *twin.optimizer.variables),
        (*model.variables, *model.optimizer.variables),
        strict=True,
    ):
        variable.assign(np.array(values.value))
    for each in (model, twin):
        each.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    assert_same_state(model, batch_size_model.state(twin))


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
    result = find_batch_size(
        model, x, y, min_batch_size=5, max_batch_size=7, in_process=True, steps=1, verbose=0
    )
    assert result.batch_sizes.tolist() == [5, 7]
    shapes = [(3,), (2,), (1,), (4,)] if with_y else [(3,), (2,)]
    assert seen == [[(size, *shape) for shape in shapes] for size in (5, 5, 7, 7)]


def test_progress_is_shown(capsys: pytest.CaptureFixture) -> None:
    model, (x, y) = batch_size_model.build(), batch_size_model.data()
    find_batch_size(model, x, y, min_batch_size=50, in_process=True, verbose=2)
    assert "batch_size: 50" in capsys.readouterr().out
    find_batch_size(model, x, y, min_batch_size=50, in_process=True, verbose=0)
    assert not capsys.readouterr().out


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
    assert backend.is_out_of_memory(error) is expected


# The search


@pytest.mark.any_backend
@hypothesis.given(
    low=st.integers(1, 50),
    extra=st.integers(0, 5000),
    capacity=st.integers(0, 6000),
    tolerance=st.sampled_from([0, 0.05, 0.3, 1, 5]),
)
def test_doubling_then_bisection(low: int, extra: int, capacity: int, tolerance: float) -> None:
    high, capacity = low + extra, low + capacity
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= capacity

    failed = batch_size._search(fits, low, high, tolerance)
    fitted = [size for size in tried if size <= capacity]
    assert len(set(tried)) == len(tried)
    assert low <= min(tried)
    assert max(tried) <= high
    if capacity >= high:
        assert failed is None
        assert max(fitted) == high
    else:
        assert failed == min(set(tried) - set(fitted))
        assert failed - max(fitted) <= max(1, tolerance * max(fitted))
    assert len(tried) <= 2 + 2 * np.ceil(np.log2(high / low + 1)) + np.log2(low)


# The result


def result() -> BatchSizeResult:
    return BatchSizeResult([8, 16, 32, 48], [0.01, 0.011, 0.02, 0.04], out_of_memory=64)


@pytest.mark.any_backend
def test_the_result_says_where_it_stops_to_pay() -> None:
    seen = result()
    np.testing.assert_allclose(seen.throughputs, [800, 1454.5454, 1600, 1200], rtol=1e-6)
    assert [seen.suggest(), seen.suggest(1), seen.suggest(0.9), seen.suggest(0.1)] == [
        32,
        32,
        16,
        8,
    ]
    assert (seen.largest, seen.out_of_memory, seen.limited_by) == (48, 64, "memory")
    assert repr(seen) == "BatchSizeResult(sizes=4, largest=48, limited_by='memory')"
    assert BatchSizeResult([8], [0.1]).limited_by == "max_batch_size"


@pytest.mark.any_backend
def test_the_result_is_drawn() -> None:
    throughput, time = result().plot()
    for axes, values in ((throughput, result().throughputs), (time, result().step_times)):
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), [8, 16, 32, 48])
        np.testing.assert_allclose(axes.lines[0].get_ydata(), values)
        assert axes.get_xscale() == "log"
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["suggested: 32", "out of memory: 64"]
    _, axes = plt.subplots(1, 2)
    assert BatchSizeResult([8], [0.1]).plot(axes) == list(axes)
    with pytest.raises(ValueError, match=r"two Axes.*length 1"):
        result().plot(axes[:1])
    plt.close("all")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchSizeResult([], []), "batch_sizes"),
        (lambda: BatchSizeResult([2, 1], [1, 1]), "batch_sizes"),
        (lambda: BatchSizeResult([0, 1], [1, 1]), "batch_sizes"),
        (lambda: BatchSizeResult([1.5], [1]), "batch_sizes"),
        (lambda: BatchSizeResult([1, 2], [1]), "step_times"),
        (lambda: BatchSizeResult([1, 2], [1, np.nan]), "step_times"),
        (lambda: BatchSizeResult([1, 2], [1, 0]), "step_times"),
        (lambda: result().suggest(0), "fraction"),
        (lambda: result().suggest(1.1), "fraction"),
    ],
)
def test_a_result_that_cannot_be_is_refused(make: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=f"`{message}`.*Received: {message}="):
        make()


# Arguments


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": keras.Sequential()}, "not compiled.*Received: model="),
        ({"model": "model"}, "`model` must be.*Received: model='model'"),
        ({"x": None}, "Received: x=None"),
        ({"x": iter([1])}, "`x` must be an array.*Received: x with .*list_iterator"),
        ({"x": [1, 2]}, "`x` must be an array.*Received: x with 1 of type int"),
        ({"y": "targets"}, "`y` must be an array.*Received: y with 'targets'"),
        ({"y": np.ones((49, 1))}, r"as many samples.*Received: arrays of \[49, 50\]"),
        ({"x": np.ones((0, 4)), "y": None}, r"at least one.*Received: arrays of \[0\]"),
        ({"min_batch_size": 0}, "Received: min_batch_size=0"),
        ({"min_batch_size": 51}, "at most the 50 samples.*Received: min_batch_size=51"),
        ({"max_batch_size": 2.0}, "integer.*Received: max_batch_size=2.0"),
        ({"min_batch_size": 8, "max_batch_size": 7}, "at least 8.*Received: max_batch_size=7"),
        ({"memory_limit": 0}, "at least 1.*Received: memory_limit=0"),
        ({"memory_limit": 1e9}, "integer.*Received: memory_limit=1000000000.0"),
        ({"memory_limit": 10**9, "in_process": True}, "Received: memory_limit=1000000000"),
        ({"tolerance": -0.1}, "Received: tolerance=-0.1"),
        ({"steps": 0}, "Received: steps=0"),
        ({"in_process": 1}, "True or False.*Received: in_process=1"),
        ({"verbose": 3}, "Received: verbose=3"),
    ],
    ids=lambda value: None if isinstance(value, str) else ",".join(value),
)
def test_a_wrong_argument_is_named_before_anything_is_tried(arguments: dict, message: str) -> None:
    x, y = batch_size_model.data()
    model = batch_size_model.build()
    with pytest.raises((TypeError, ValueError), match=message):
        find_batch_size(**{"model": model, "x": x, "y": y, "verbose": 0, **arguments})
    assert not model.optimizer.built
    assert model.train_function is None


@pytest.mark.any_backend
def test_a_limit_needs_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ValueError, match=r"Linux.*Received: memory_limit=5 on darwin"):
        find_batch_size(batch_size_model.build(), *batch_size_model.data(), memory_limit=5)


@pytest.mark.any_backend
def test_a_model_without_optimizer_or_not_built_is_refused() -> None:
    x, y = batch_size_model.data()
    model = batch_size_model.build()
    model.compile(optimizer=None, loss="mse")
    with pytest.raises(ValueError, match="optimizer"):
        find_batch_size(model, x, y)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="not built"):
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


# The memory of the machine


def machine(folder: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  4 kB\n", **files}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")
    return folder


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("groups", "available"),
    [
        ({}, 4096),
        ({"memory.max": "max\n", "memory.current": "9\n"}, 4096),
        (
            {
                "memory.max": "3000\n",
                "memory.current": "2000\n",
                "memory.stat": "anon 1\ninactive_file 500\n",
            },
            1500,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "3000\n",
                "memory/memory.usage_in_bytes": "1000\n",
                "memory/memory.stat": "cache 7\ninactive_file 0\n",
            },
            2000,
        ),
    ],
    ids=["none", "unlimited", "version 2", "version 1"],
)
def test_what_a_container_has_left(tmp_path: Path, groups: dict, available: int) -> None:
    root = machine(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in groups.items()})
    assert available_memory(root) == available


# The learning rate


@pytest.mark.any_backend
@hypothesis.given(lr=st.floats(1e-6, 10), old=st.integers(1, 10**5), new=st.integers(1, 10**5))
def test_learning_rates_follow_the_batch_size(lr: float, old: int, new: int) -> None:
    assert scale_lr(lr, old, new) == pytest.approx(lr * new / old)
    # An update's variance is lr ** 2 / batch size.
    assert scale_lr(lr, old, new, rule="sqrt") ** 2 / new == pytest.approx(lr**2 / old)
    assert scale_lr(scale_lr(lr, old, new), new, old) == pytest.approx(lr)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_lr": 0.0}, "Received: max_lr=0.0"),
        ({"max_lr": "0.1"}, "Received: max_lr='0.1'"),
        ({"old": 0}, "Received: old=0"),
        ({"new": 2.5}, "Received: new=2.5"),
        ({"rule": "cubic"}, "'linear', 'sqrt'.*Received: rule='cubic'"),
        ({"max_lr": 1e38, "new": 10**6}, "float32"),
    ],
)
def test_a_wrong_argument_of_scale_lr_is_named(arguments: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        scale_lr(**{"max_lr": 0.1, "old": 256, "new": 512, **arguments})
