"""The LR range test: as a callback, and in one call."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_onecycle._arguments import check_choice, check_float, check_int
from keras_onecycle._keras.data import repeated
from keras_onecycle.range_tests._range_test import RangeTest
from keras_onecycle.range_tests._run import run_range_test, split_arguments
from keras_onecycle.range_tests._short_cycles import ShortCycles, batches_of_cycle, ladder_of
from keras_onecycle.range_tests.result import RangeTestResult
from keras_onecycle.schedules import RANGE_TEST_MODES, Schedule, range_test_lr


class LRFinder(RangeTest):
    """Runs the LR range test in `fit`: the learning rate rises at each update until the loss diverges.

    When `fit` ends, the curve is in `result`, and the model and its optimizer are as before, bit for bit.
    After an exception, call `restore`. `lr_find` does that for you and repeats a small dataset as needed.

    Example:

    >>> keras.utils.set_random_seed(0)
    >>> x = np.random.rand(512, 4)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(), loss="mse")
    >>> finder = keras_onecycle.LRFinder(num_steps=50)
    >>> _ = model.fit(x, x.sum(axis=1), batch_size=8, verbose=0, callbacks=[finder])
    >>> bool(0.001 < finder.result.suggest() < 1)
    True

    The metrics that `fit` shows during the test are those of one batch. The test runs single steps: if
    the model was compiled with `steps_per_execution=n`, `fit` counts `n` batches for each and begins a
    new epoch after an n-th of the data. `lr_find` does not.

    Args:
        min_lr: Float, the first learning rate: above 0, or from 0 with `mode="linear"`. Defaults to `1e-6`.
        max_lr: Float above `min_lr`, the last learning rate. Defaults to `10.0`.
        num_steps: Integer, at least 2: optimizer updates from the first to the last. Defaults to `100`.
        mode: `"exponential"`, or `"linear"` as in the papers. Defaults to `"exponential"`.
        stop_factor: Float above 1, or `None` for a test that never stops early. The test stops when the
            loss is NaN, or when the smoothed loss and each of the last 5 losses are more than this times
            the lowest smoothed loss since the first tenth of the test. (If that is 0 or less: when they
            have risen by `stop_factor - 1` times the size of the lowest or the first, whichever is
            larger.) Defaults to `4.0`.
        smoothing: Float in [0, 1): the weight of the past in the moving average `smoothed_loss`, which the
            stop rule reads. Defaults to `0.98`.
        validation_data: Data to evaluate during the test: a tuple `(x, y)` or `(x, y, sample_weight)`, or
            what `Model.evaluate` takes as `x`, except a generator. Defaults to `None`.
        validation_freq: Integer, at least 1: updates from one evaluation to the next. Defaults to
            `None`: so that there are about twenty.
        validation_steps: Integer, at least 1: batches of `validation_data` in an evaluation. Defaults
            to `None`: all of it.
        validation_batch_size: Integer, at least 1, for validation data in arrays. Defaults to `None`:
            Keras's 32.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range; at the start of `fit`, if the model is not
            built or its optimizer cannot follow a schedule.

    References:

    - [Smith, 2015, section 3.3](https://arxiv.org/abs/1506.01186)
    - [Smith, 2018, section 4.1](https://arxiv.org/abs/1803.09820)
    """

    def __init__(
        self,
        min_lr: float = 1e-6,
        max_lr: float = 10.0,
        num_steps: int = 100,
        mode: str = "exponential",
        stop_factor: float | None = 4.0,
        smoothing: float = 0.98,
        validation_data: Any = None,
        validation_freq: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
    ) -> None:
        super().__init__(
            num_steps,
            stop_factor,
            smoothing,
            validation_data,
            validation_freq,
            validation_steps,
            validation_batch_size,
        )
        self.mode = check_choice("mode", mode, RANGE_TEST_MODES)
        self.min_lr = check_float("min_lr", min_lr, 0, open_low=mode != "linear")
        self.max_lr = check_float("max_lr", max_lr, 0, open_low=True)
        if self.max_lr <= self.min_lr:
            raise ValueError(
                f"`max_lr` must be above `min_lr`. Received: min_lr={min_lr!r}, max_lr={max_lr!r}"
            )

    def schedules(self) -> Mapping[str, Schedule]:
        """Returns the learning rate as a function of the step."""
        return {
            "learning_rate": partial(
                range_test_lr,
                min_lr=self.min_lr,
                max_lr=self.max_lr,
                num_steps=self.num_steps,
                mode=self.mode,
            )
        }


def lr_find(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    cycle_steps: int = 50,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    **arguments: Any,
) -> RangeTestResult:
    """Runs the LR range test and a few short cycles on a compiled model, and leaves no trace in it.

    The curve of the range test says where to begin: up to four short cycles follow, each from the same
    weights, the first at the rate that the curve suggests. The next have three times the last rate until two
    are worse than the best, then a third. With the defaults that is at most 300 updates in all.

    Afterwards the weights, BatchNorm statistics, seeds, optimizer, metrics and `stop_training` are as before,
    bit for bit, even after an exception or Ctrl-C. This takes one copy of all variables in host memory.
    Keras's global seed, which serves layers that call `keras.random` without a `SeedGenerator`, is not
    restored.

    Example:

    >>> keras.utils.set_random_seed(0)
    >>> x = np.random.rand(64, 4)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(), loss="mse")
    >>> result = keras_onecycle.lr_find(model, x, x.sum(axis=1), batch_size=8, verbose=0)
    >>> bool(0.001 < result.suggest() < 1)
    True

    Args:
        model: A compiled `keras.Model`.
        x: What `fit` takes: arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`, which are
            repeated as often as needed, or a generator, which is read once.
        y: Targets, as `fit` takes them. Defaults to `None`.
        cycle_steps: Integer, the updates of each short cycle: at least 10, or 0 for the range test alone.
            Defaults to `50`.
        verbose: 0, 1, 2 or `"auto"`, as in `fit`; a bar counts the updates of the range test and another
            those of the cycles. Defaults to `"auto"`.
        callbacks: Further callbacks for `fit`, which is called twice. Defaults to `None`.
        **arguments: Arguments of `LRFinder`: `min_lr`, `max_lr`, `num_steps`, `mode`, `stop_factor`,
            `smoothing`, and `validation_data` with those that go with it. And arguments of `fit`:
            `batch_size`, `sample_weight`, `class_weight`, `shuffle`, `steps_per_epoch`.

    Returns:
        A `RangeTestResult`.

    Raises:
        TypeError: If an argument is unknown or of the wrong type.
        ValueError: If an argument is out of its range, the model is not compiled, or its optimizer
            cannot follow a schedule.

    References:

    - [Smith, 2015, section 3.3](https://arxiv.org/abs/1506.01186)
    """
    if cycle_steps != 0:
        check_int("cycle_steps", cycle_steps, 10)
    of_test, of_fit = split_arguments(lr_find, LRFinder, arguments)
    common: dict[str, Any] = {"verbose": verbose, "callbacks": callbacks}
    result = run_range_test(LRFinder(**of_test), model, x, y, **common, **of_fit)
    ladder = ladder_of(result)
    if not cycle_steps or ladder is None:
        return result
    x, y, weight, how = repeated(
        x,
        y,
        of_fit.pop("sample_weight", None),
        of_fit.get("batch_size"),
        batches_of_cycle(model, cycle_steps),
    )
    of_fit |= {"sample_weight": weight, **how}
    run_range_test(ShortCycles(ladder, cycle_steps), model, x, y, **common, **of_fit)
    return replace(result, cycle_lr=np.array(ladder.lr), cycle_loss=np.array(ladder.loss))
