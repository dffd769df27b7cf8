"""The LR range test as a callback."""

import warnings
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_onecycle.arguments import (
    MAX_STEPS,
    check_choice,
    check_float,
    check_int,
    check_learning_rate,
)
from keras_onecycle.callback import Callback
from keras_onecycle.compiled_step import run_single_steps
from keras_onecycle.hyperparameters import ScheduledHyperparameters, unwrap
from keras_onecycle.range_test_result import RangeTestResult
from keras_onecycle.schedules import RANGE_TEST_MODES, evaluate, range_test_lr
from keras_onecycle.snapshot import Snapshot

# A test ends when this many batches in a row made no update: loss scaling skips a few at first, and
# all of them once the weights are NaN.
MAX_SKIPPED_BATCHES = 100

# Evaluations on validation data in a test, where `validation_freq` does not say.
_EVALUATIONS = 20


class LRFinder(Callback):
    """Runs the LR range test in `fit`: the learning rate rises each update until the loss diverges.

    When `fit` ends, the model and its optimizer are as they were before, bit for bit. `lr_find` is
    the shorter way, goes over a short dataset as often as needed, and cleans up after exceptions.

    Example:

    >>> keras.utils.set_random_seed(0)
    >>> x = np.random.rand(512, 4)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(), loss="mse")
    >>> finder = keras_onecycle.LRFinder(num_steps=50)
    >>> _ = model.fit(x, x.sum(axis=1), batch_size=8, verbose=0, callbacks=[finder])
    >>> bool(0.001 < finder.result.suggest() < 1)
    True

    The metrics that `fit` shows meanwhile are those of one batch. A test runs single steps. Where the
    model was compiled with `steps_per_execution=n`, `fit` counts `n` batches for each of them and
    begins a new epoch after an n-th of the data; `lr_find` does not.

    Args:
        min_lr: Float, the first learning rate: above 0, or from 0 with `mode="linear"`. Defaults to
            `1e-6`.
        max_lr: Float above `min_lr`, the last learning rate. Defaults to `10.0`.
        num_steps: Integer, at least 2: optimizer updates from the first to the last. Defaults to
            `100`.
        mode: `"exponential"`, or `"linear"` as in the papers. Defaults to `"exponential"`.
        stop_factor: Float above 1, or `None`. The test stops when the smoothed loss is more than this
            times its lowest, or NaN; with `None`, never early. Once its lowest is 0 or less: when it
            has risen by `stop_factor - 1` times its first or its lowest, whichever is the larger in
            size. Defaults to `4.0`.
        smoothing: Float in [0, 1): the weight of the past in the bias-corrected moving average.
            Defaults to `0.98`.
        validation_data: What `Model.evaluate` takes as `x`, but no generator, or a tuple `(x, y)` or
            `(x, y, sample_weight)`: evaluated along the way. Defaults to `None`.
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

    _of_one_fit = ("_snapshot", "_scheduled", "_progress")

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
        super().__init__()
        self.mode = check_choice("mode", mode, RANGE_TEST_MODES)
        self.min_lr = check_learning_rate("min_lr", min_lr, zero=mode == "linear")
        self.max_lr = check_learning_rate("max_lr", max_lr)
        if self.max_lr <= self.min_lr:
            raise ValueError(
                f"`max_lr` must be above `min_lr`. Received: min_lr={min_lr!r}, max_lr={max_lr!r}"
            )
        self.num_steps = check_int("num_steps", num_steps, 2, MAX_STEPS)
        self.stop_factor = (
            None
            if stop_factor is None
            else check_float("stop_factor", stop_factor, 1, open_low=True)
        )
        self.smoothing = check_float("smoothing", smoothing, 0, 1, open_high=True)
        _check_validation_data(validation_data)
        for name, value in (
            ("validation_freq", validation_freq),
            ("validation_steps", validation_steps),
            ("validation_batch_size", validation_batch_size),
        ):
            if value is not None:
                check_int(name, value)
                if validation_data is None:
                    raise ValueError(
                        f"`{name}` needs `validation_data`. Received: {name}={value!r}, validation_data=None"
                    )
        self.validation_data = validation_data
        self.validation_freq = validation_freq or max(1, self.num_steps // _EVALUATIONS)
        self.validation_steps = validation_steps
        self.validation_batch_size = validation_batch_size
        self.result: RangeTestResult | None = None
        self._snapshot: Snapshot | None = None
        self._progress: keras.utils.Progbar | None = None

    def restore(self) -> None:
        """Puts model and optimizer back as they were before the test.

        `fit` does this at its end, and `lr_find` in any case. After an exception or Ctrl-C in a
        `fit` of your own, when Keras calls no callback, call it yourself: another `fit` would go on
        with the weights that the test left.
        """
        if self._snapshot is None:
            return
        self._scheduled.detach()
        self._snapshot.restore()
        # As `fit` itself begins: a test that stopped early has stopped no later training.
        self._snapshot.model.stop_training = False
        self._snapshot = None

    def _forget(self) -> None:
        # Training that follows an interrupted test must not be undone by a later `restore`.
        self._snapshot = None
        warnings.warn(
            "A range test was interrupted and not undone: this training goes on with the weights "
            "that it left. Call `finder.restore()` after an interruption, before any other `fit`.",
            stacklevel=2,
        )

    def set_model(self, model: keras.Model) -> None:
        # What a test that was interrupted left behind is not where the next one should begin. `fit`
        # calls this first of all, before an interrupted test is forgotten.
        self.restore()
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        schedule = partial(
            range_test_lr,
            min_lr=self.min_lr,
            max_lr=self.max_lr,
            num_steps=self.num_steps,
            mode=self.mode,
        )
        scheduled = ScheduledHyperparameters(model, {"learning_rate": schedule}, owner="LRFinder")
        scheduled.check_free()
        self._snapshot = Snapshot(model)
        self._scheduled = scheduled
        scheduled.attach(at_next_fit=self._forget)
        # Of several steps in one execution, only the last one's loss comes out.
        run_single_steps(model)
        self._lr = evaluate(schedule, np.arange(self.num_steps)).astype(float)
        self._batches = scheduled.batches()
        self._skipped = 0
        self._losses_of_update: list[float] = []
        self._loss: list[float] = []
        self._smoothed: list[float] = []
        self._average = 0.0
        self._val_lr: list[float] = []
        self._val_logs: list[dict[str, float]] = []
        self._ended = False
        self.result = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch_has_data = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._epoch_has_data:
            self.model.stop_training = True

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # Keras reports the mean since the last reset: with one before each batch, that batch's own.
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch_has_data = True
        if "loss" not in (logs or {}):
            raise ValueError(
                "A range test needs the loss: the logs of the model's `train_step` must have a `loss`. "
                f"Received: logs with {sorted(logs or {})}"
            )
        if self._ended:
            return
        model = self.model
        batches = self._scheduled.batches()
        if batches == self._batches:
            self._skipped += 1
            if self._skipped >= MAX_SKIPPED_BATCHES:
                reason = (
                    "the model's `train_step` made none with `model.optimizer` in"
                    if unwrap(model.optimizer) is model.optimizer
                    else "loss scaling skipped"
                )
                warnings.warn(
                    f"The range test ends after {len(self._loss)} of {self.num_steps} updates: "
                    f"{reason} the last {self._skipped} batches.",
                    stacklevel=2,
                )
                self._end(model)
            return
        self._batches = batches
        self._skipped = 0
        self._losses_of_update.append(float(logs["loss"]))
        if self._scheduled.step() > len(self._loss):
            self._add_point(float(np.mean(self._losses_of_update)))
            self._losses_of_update.clear()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if not self._ended:
            warnings.warn(
                f"The range test ends after {len(self._loss)} of {self.num_steps} updates, with the "
                "data of `fit`. Give it more `epochs`, or use `lr_find`; a generator must itself have "
                "enough batches.",
                stacklevel=2,
            )
        points = len(self._loss)
        names = self._val_logs[0] if self._val_logs else {}
        validation = {name: np.array([seen[name] for seen in self._val_logs]) for name in names}
        self.result = RangeTestResult(
            lr=self._lr[:points],
            loss=np.array(self._loss),
            smoothed_loss=np.array(self._smoothed),
            mode=self.mode,
            val_lr=np.array(self._val_lr),
            val_loss=validation.pop("loss", np.empty(0)),
            val_metrics=validation,
        )
        self.restore()

    def _add_point(self, loss: float) -> None:
        model = self.model
        step = len(self._loss)
        self._loss.append(loss)
        self._average = self.smoothing * self._average + (1 - self.smoothing) * loss
        smoothed = self._average / (1 - self.smoothing ** (step + 1))
        self._smoothed.append(smoothed)
        if self._progress is not None:
            self._progress.update(
                step + 1, [("learning_rate", self._lr[step]), ("loss", loss)], finalize=False
            )
        # Not `>`: NaN is above no limit.
        diverged = self.stop_factor is not None and not smoothed <= self._limit()
        last = step + 1 == self.num_steps
        if self.validation_data is not None and ((step + 1) % self.validation_freq == 0 or last):
            self._val_lr.append(float(self._lr[step]))
            self._val_logs.append(self._evaluate(model))
        if diverged or last:
            self._end(model)

    def _limit(self) -> float:
        lowest = min(self._smoothed)
        # Where the loss changes sign, its lowest may be next to 0 and is no measure of a rise.
        size = lowest if lowest > 0 else max(abs(lowest), abs(self._smoothed[0]))
        return lowest + (self.stop_factor - 1) * size

    def _evaluate(self, model: keras.Model) -> dict[str, float]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self.validation_data)
        return model.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            batch_size=self.validation_batch_size,
            steps=self.validation_steps,
            verbose=0,
            return_dict=True,
        )

    def _end(self, model: keras.Model) -> None:
        self._ended = True
        model.stop_training = True
        if self._progress is not None:
            self._progress.update(len(self._loss), finalize=True)


def _check_validation_data(data: Any) -> None:
    received = f"Received: validation_data={data!r}"
    if hasattr(data, "__next__"):
        raise ValueError(
            "`validation_data` is gone over several times, which a generator or iterator cannot be. "
            f"Pass arrays, a dataset or a `keras.utils.PyDataset`. {received}"
        )
    if isinstance(data, (tuple, list)) and not 1 <= len(data) <= 3:
        raise ValueError(
            "`validation_data` must be `x`, `(x, y)` or `(x, y, sample_weight)`. "
            f"{received}, of length {len(data)}"
        )
    is_data = hasattr(data, "__iter__") or hasattr(data, "__getitem__")
    if data is not None and (isinstance(data, (str, bytes)) or not is_data):
        raise TypeError(
            "`validation_data` must be arrays, a dataset, or a tuple of them. "
            f"{received} of type {type(data).__name__}"
        )
