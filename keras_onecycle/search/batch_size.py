"""The largest batch that fits in memory, and what batches of each size cost."""

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_onecycle._arguments import check_bool, check_float, check_int
from keras_onecycle.search.batch_size_children import in_child_processes
from keras_onecycle.search.batch_size_result import BatchSizeResult
from keras_onecycle.search.batch_size_trial import DoesNotFitError, in_this_process
from keras_onecycle.search.memory import available_memory

# Of the memory that is left: the rest is for other processes, and to tell errors of memory apart.
_SHARE = 0.8


def find_batch_size(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    min_batch_size: int = 1,
    max_batch_size: int | None = None,
    memory_limit: int | None = None,
    tolerance: float = 0.05,
    steps: int = 3,
    in_process: bool | None = None,
    verbose: str | int = "auto",
) -> BatchSizeResult:
    """Finds the largest batch that fits in memory, and measures throughput against batch size.

    The batch size is doubled until a training step runs out of memory, and then the gap between the
    last that fitted and the first that did not is halved. What counts is the real thing: the error of
    the backend, or the death of a child process.

    On an accelerator the tries are made in this process. Weights, statistics of BatchNorm, seeds,
    optimizer and metrics are afterwards as before, bit for bit, also after an exception or Ctrl-C
    (host memory for that: one copy of the variables), and the compiled functions are the same ones. On
    a CPU, where running out of memory now and then kills the process, each try is made in a child
    process (seconds each), on a copy of the model.

    Leave some room when you use what was found: `fit` holds more than a step does, such as the data
    and the batches that are prepared ahead.

    Example:

    >>> x = np.random.rand(48, 4)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(), loss="mse")
    >>> result = keras_onecycle.search.find_batch_size(
    ...     model, x, x.sum(axis=1), min_batch_size=16, in_process=True, verbose=0
    ... )
    >>> result.batch_sizes.tolist(), result.limited_by
    ([16, 32, 48], 'max_batch_size')

    Args:
        model: A built and compiled `keras.Model`, which trains on one device.
        x: Array of samples, or a dict, list or tuple of arrays. A batch is its first rows; where it has
            fewer, they are repeated.
        y: Targets, as `x`. Defaults to `None`.
        min_batch_size: Integer, at least 1: the first batch size, in samples. Defaults to `1`.
        max_batch_size: Integer, at least `min_batch_size`: the largest to try, in samples. Defaults to
            `None`: all samples of `x`.
        memory_limit: Integer above 0, for child processes on Linux: the bytes of memory that a process
            may have, with Python, the backend, model and batch. It is the limit `RLIMIT_DATA`, which
            counts what the process allocates, and not addresses that are only reserved (those are
            gigabytes, so that `RLIMIT_AS` says little). An error that does not speak of memory is tried
            again with up to twice as much, and is one of memory if that helps. Defaults to `None`: four
            fifths of what the machine, or the container, has left at the moment; without a limit on
            other systems than Linux.
        tolerance: Float, at least 0: the search ends when the smallest batch that did not fit is at
            most this fraction, or one sample, above the largest that did. Defaults to `0.05`.
        steps: Integer, at least 1: steps that are timed at each size, after one that is not. Defaults
            to `3`.
        in_process: `True` or `False`: make the tries in this process. Defaults to `None`: on an
            accelerator, not on a CPU. `True` on a CPU is quick, and for models that cannot be saved;
            it needs a `max_batch_size` that surely fits, since what is beyond may kill the process.
        verbose: 0, 1, 2 or `"auto"`, as in `fit`; the bar counts tries. Defaults to `"auto"`.

    Returns:
        A `BatchSizeResult`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range; if the model is not compiled, is distributed, or
            a child process cannot load it; if not even the smallest batch fits.
        RuntimeError: If training in a child process fails for another reason than memory.
    """
    _check_model(model)
    samples = _count_samples(x, y)
    check_int("min_batch_size", min_batch_size)
    if max_batch_size is None:
        max_batch_size = samples
        if min_batch_size > samples:
            raise ValueError(
                f"`min_batch_size` must be at most the {samples} samples of `x`, unless `max_batch_size` "
                f"is given. Received: min_batch_size={min_batch_size}"
            )
    check_int("max_batch_size", max_batch_size, min_batch_size)
    check_float("tolerance", tolerance, 0)
    check_int("steps", steps)
    if verbose not in (0, 1, 2, "auto"):
        raise ValueError(f"`verbose` must be 0, 1, 2 or 'auto'. Received: verbose={verbose!r}")
    on_cpu = all(device.startswith("cpu") for device in keras.distribution.list_devices())
    if in_process is None:
        in_process = not on_cpu
    elif not check_bool("in_process", in_process) and not on_cpu:
        raise ValueError(
            "`in_process` must be `True` or `None` on an accelerator, whose memory this process holds. "
            "Received: in_process=False"
        )
    if memory_limit is not None:
        _check_memory_limit(memory_limit, in_process)
    elif not in_process and sys.platform == "linux":
        memory_limit = int(_SHARE * available_memory())
    progress = keras.utils.Progbar(
        None,
        verbose=1 if verbose == "auto" else int(verbose),
        stateful_metrics=["batch_size", "samples_per_second"],
        unit_name="try",
    )
    tries = 0
    step_times: dict[int, float] = {}

    def show(batch_size: int) -> None:
        speed = batch_size / step_times.get(batch_size, float("nan"))
        if verbose:
            progress.update(tries, [("batch_size", batch_size), ("samples_per_second", speed)])

    def fits(batch_size: int) -> bool:
        nonlocal tries
        tries += 1
        try:
            step_times[batch_size] = float(np.median(trial(batch_size)))
        except DoesNotFitError as error:
            if batch_size == min_batch_size:
                raise ValueError(
                    f"Not even the smallest batch fits in memory: {error}. "
                    f"Received: min_batch_size={min_batch_size}, memory_limit={memory_limit}"
                ) from None
        show(batch_size)
        return batch_size in step_times

    trials = (
        in_this_process(model, x, y, steps)
        if in_process
        else in_child_processes(model, x, y, steps, memory_limit)
    )
    with trials as trial:
        out_of_memory = _search(fits, min_batch_size, max_batch_size, tolerance)
    sizes = sorted(step_times)
    progress.target = tries
    show(sizes[-1])
    return BatchSizeResult(
        batch_sizes=np.array(sizes),
        step_times=np.array([step_times[size] for size in sizes]),
        out_of_memory=out_of_memory,
    )


def _search(fits: Callable[[int], bool], low: int, high: int, tolerance: float) -> int | None:
    """Doubles from `low` to `high`, then bisects; returns the smallest size that did not fit, if any."""
    largest, size = 0, low
    while fits(size):
        if size == high:
            return None
        largest, size = size, min(2 * size, high)
    failed = size
    while failed - largest > max(1, tolerance * largest):
        middle = (largest + failed) // 2
        if fits(middle):
            largest = middle
        else:
            failed = middle
    return failed


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a `keras.Model`. Received: model={model!r}")
    if not model.compiled or model.optimizer is None:
        raise ValueError(
            "`model` is not compiled with an optimizer. Call `model.compile(optimizer=..., loss=...)` "
            f"first. Received: model={model!r}"
        )
    if not model.built:
        raise ValueError(
            "`model` is not built. Give it a `keras.Input`, or call `model.build(input_shape)` or the "
            f"model on a batch of data. Received: model={model!r}"
        )
    strategy = getattr(model, "distribute_strategy", None)
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    if replicas > 1 or keras.distribution.distribution() is not None:
        raise ValueError(
            "`model` is distributed. Make it without a strategy or distribution, for one device, whose "
            f"batch is a share of the whole one. Received: model={model!r}"
        )


def _count_samples(x: Any, y: Any) -> int:
    if x is None:
        raise ValueError("`x` must be the training data, in arrays. Received: x=None")
    lengths = set()
    for name, data in (("x", x), ("y", y)):
        for leaf in [] if data is None else keras.tree.flatten(data):
            if not getattr(leaf, "shape", ()):
                raise TypeError(
                    f"`{name}` must be an array of samples, or a dict, list or tuple of arrays. Of a "
                    "dataset or generator, pass the arrays of a batch, and `max_batch_size`. "
                    f"Received: {name} with {leaf!r} of type {type(leaf).__name__}"
                )
            lengths.add(int(leaf.shape[0]))
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            "The arrays of `x` and `y` must have as many samples each, at least one. "
            f"Received: arrays of {sorted(lengths)} samples"
        )
    return lengths.pop()


def _check_memory_limit(memory_limit: Any, in_process: bool) -> None:
    check_int("memory_limit", memory_limit)
    if in_process:
        raise ValueError(
            "`memory_limit` is for child processes on a CPU: an accelerator is tried with the memory "
            "that it has, and so is this process with `in_process=True`. "
            f"Received: memory_limit={memory_limit}"
        )
    if sys.platform != "linux":
        raise ValueError(
            "`memory_limit` needs Linux, whose kernel alone holds a process to it. "
            f"Received: memory_limit={memory_limit} on {sys.platform}"
        )
