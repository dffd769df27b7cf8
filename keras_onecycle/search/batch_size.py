"""The largest batch that fits in memory, and the throughput of each batch size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_onecycle._arguments import check_compiled, check_int
from keras_onecycle._keras import backend
from keras_onecycle._keras.data import take
from keras_onecycle._keras.out_of_memory import out_of_memory_message
from keras_onecycle._keras.trial_steps import TrialSteps
from keras_onecycle.search._folds import check_arrays, count_samples

# On a CPU, where `max_batch_size` does not say: the system may kill a process that takes all memory.
_LARGEST_ON_CPU = 1024
# The search ends when the smallest batch that did not fit is by this fraction above the largest that did.
_TOLERANCE = 0.05
# So much of the best throughput is enough.
_ENOUGH = 0.95


@dataclass(eq=False)
class BatchSizeResult:
    """The result of `find_batch_size`.

    Example:

    >>> result = keras_onecycle.search.BatchSizeResult(
    ...     batch_sizes=[32, 64, 128, 192], step_times=[0.02, 0.022, 0.04, 0.06], out_of_memory=256
    ... )
    >>> result.largest, result.suggest()
    (192, 128)
    >>> result.throughputs.round().tolist()
    [1600.0, 2909.0, 3200.0, 3200.0]

    Args:
        batch_sizes: Integer array of shape `(sizes,)`, increasing: the sizes that fit, in samples.
        step_times: Float array of shape `(sizes,)`: the median time of a training step, in seconds.
        out_of_memory: Integer, the smallest batch size that did not fit, or `None` where all sizes
            up to `max_batch_size` did. Defaults to `None`.
    """

    batch_sizes: np.ndarray
    step_times: np.ndarray
    out_of_memory: int | None = None

    def __post_init__(self) -> None:
        self.batch_sizes = np.asarray(self.batch_sizes)
        self.step_times = np.asarray(self.step_times, dtype=float)

    @property
    def largest(self) -> int:
        """The largest batch size that fitted, in samples."""
        return int(self.batch_sizes[-1])

    @property
    def throughputs(self) -> np.ndarray:
        """Samples per second at each of `batch_sizes`, a float array of shape `(sizes,)`."""
        return self.batch_sizes / self.step_times

    def suggest(self) -> int:
        """Returns the smallest batch size with at least 95% of the best throughput, in samples.

        A larger one makes fewer updates in the same time.
        """
        enough = self.throughputs >= _ENOUGH * self.throughputs.max()
        return int(self.batch_sizes[np.argmax(enough)])


def find_batch_size(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    min_batch_size: int = 1,
    max_batch_size: int | None = None,
    verbose: int = 1,
) -> BatchSizeResult:
    """Finds the largest batch that fits in memory, and measures the throughput of each batch size.

    The batch size doubles until a training step runs out of memory. Then bisection closes the gap
    between the largest size that fitted and the smallest that did not, to 5% or one sample. Afterwards
    the model, its optimizer and its metrics are as before, bit for bit, even after an exception or Ctrl-C.

    On a CPU this measures throughput: the system may kill a process that takes all of its memory, so
    pass a `max_batch_size` that surely fits. On an accelerator use somewhat less than the largest size:
    `fit` also holds data and the batches that it prepares ahead.

    Another batch size needs another learning rate. As a first guess, multiply `max_lr` by `new / old`
    (Goyal et al.), or with Adam by the square root of that (Malladi et al.); then run `lr_find` again.

    Example:

    >>> x = np.random.rand(48, 4)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(), loss="mse")
    >>> result = keras_onecycle.search.find_batch_size(
    ...     model, x, x.sum(axis=1), min_batch_size=16, verbose=0
    ... )
    >>> result.batch_sizes.tolist(), result.out_of_memory
    ([16, 32, 48], None)

    Args:
        model: A built and compiled `keras.Model` on one device.
        x: Array of samples, or a dict, list or tuple of arrays: NumPy, pandas or tensors. A batch takes the
            first rows, repeated if there are too few.
        y: Targets, as `x`. Defaults to `None`.
        min_batch_size: Integer, at least 1: the first batch size, in samples. Defaults to `1`.
        max_batch_size: Integer, at least `min_batch_size`: the largest to try, in samples. Defaults to
            `None`: all samples of `x`, on a CPU at most 1,024.
        verbose: 0 for silence, 1 for a line for each size that is tried. Defaults to `1`.

    Returns:
        A `BatchSizeResult`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range, the model is not built and compiled or is
            distributed, or not even the smallest batch fits.

    References:

    - [Goyal et al., 2017](https://arxiv.org/abs/1706.02677)
    - [Malladi et al., 2022](https://arxiv.org/abs/2205.10287)
    """
    _check_model(model)
    x, y = check_arrays(x), check_arrays(y)
    samples = count_samples((x, y))
    check_int("min_batch_size", min_batch_size)
    if max_batch_size is None:
        max_batch_size = min(samples, _LARGEST_ON_CPU) if backend.is_on_cpu() else samples
        max_batch_size = max(max_batch_size, min_batch_size)
    check_int("max_batch_size", max_batch_size, min_batch_size)
    trial = TrialSteps(model)
    step_times: dict[int, float] = {}

    def fits(size: int) -> bool:
        rows = np.arange(size) % samples
        try:
            step_times[size] = trial.time(_batch(x, rows), _batch(y, rows))
        except Exception as error:
            message = out_of_memory_message(error)
            if message is None:
                raise
            if size == min_batch_size:
                raise ValueError(
                    f"Not even the smallest batch fits in memory: {message}. "
                    f"Received: min_batch_size={min_batch_size}"
                ) from error
            outcome = "out of memory"
        else:
            outcome = f"{size / step_times[size]:.4g} samples/s"
        if verbose:
            print(f"Batches of {size}: {outcome}", flush=True)
        return size in step_times

    out_of_memory = _search(fits, min_batch_size, max_batch_size)
    sizes = sorted(step_times)
    return BatchSizeResult(
        np.array(sizes), np.array([step_times[size] for size in sizes]), out_of_memory
    )


def _search(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """Doubles from `low` to `high`, then bisects; returns the smallest size that did not fit, if any."""
    largest, size = 0, low
    while fits(size):
        if size == high:
            return None
        largest, size = size, min(2 * size, high)
    failed = size
    while failed - largest > max(1, _TOLERANCE * largest):
        middle = (largest + failed) // 2
        if fits(middle):
            largest = middle
        else:
            failed = middle
    return failed


def _batch(data: Any, rows: np.ndarray) -> Any:
    """Returns some rows of each array, in the dtype that `fit` gives them."""

    def batch(leaf: Any) -> np.ndarray:
        values = np.asarray(leaf)
        floating = np.issubdtype(values.dtype, np.floating)
        return values.astype(keras.config.floatx() if floating else values.dtype, copy=False)

    return None if data is None else keras.tree.map_structure(batch, take(data, rows))


def _check_model(model: Any) -> None:
    strategy = getattr(check_compiled("model", model), "distribute_strategy", None)
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    if replicas > 1 or keras.distribution.distribution() is not None:
        raise ValueError(
            "`model` is distributed. Make it without a strategy or distribution, for one device, whose "
            f"batch is a share of the whole one. Received: model={model!r}"
        )
