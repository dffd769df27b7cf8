"""The engine of the range tests: a callback, and the call that runs it without a trace."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_onecycle._arguments import MAX_STEPS, check_float, check_int
from keras_onecycle._keras import backend
from keras_onecycle._keras.callback import Callback
from keras_onecycle._keras.compiled_step import run_single_steps, set_steps_per_execution
from keras_onecycle._keras.hyperparameters import ScheduledHyperparameters, unwrap
from keras_onecycle._keras.snapshot import Snapshot
from keras_onecycle.range_tests.result import RangeTestResult
from keras_onecycle.schedules import Schedule, evaluate

# A test ends when this many batches in a row made no update: loss scaling skips a few at first, and
# all of them once the weights are NaN.
MAX_SKIPPED_BATCHES = 100

# Evaluations on validation data in a test, where `validation_freq` does not say.
_EVALUATIONS = 20


class RangeTest(Callback):
    """Base of the range tests: a hyperparameter moves each update of `fit`, until the loss diverges.

    A subclass says in `schedules` what moves. The arguments are those of `LRFinder`.
    """

    _of_one_fit = ("_snapshot", "_scheduled", "_progress", "_counter")

    mode = "linear"
    # What moves, and the function that runs the test.
    moved = "learning_rate"
    function = "lr_find"

    def __init__(
        self,
        num_steps: int,
        stop_factor: float | None,
        smoothing: float,
        validation_data: Any,
        validation_freq: int | None,
        validation_steps: int | None,
        validation_batch_size: int | None,
    ) -> None:
        super().__init__()
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

    def schedules(self) -> Mapping[str, Schedule]:
        """Returns `"learning_rate"`, and what else moves, as functions of the step."""
        raise NotImplementedError(f"`{type(self).__name__}` must define `schedules()`.")

    def restore(self) -> None:
        """Puts model and optimizer back as they were before the test.

        `fit` does this at its end, and the function that runs the test in any case. After an
        exception or Ctrl-C in a `fit` of your own, when Keras calls no callback, call it yourself:
        another `fit` would go on with the weights that the test left.
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
        schedules = self.schedules()
        scheduled = ScheduledHyperparameters(model, schedules, owner=type(self).__name__)
        scheduled.check_free()
        self._snapshot = Snapshot(model)
        self._scheduled = scheduled
        scheduled.attach(at_next_fit=self._forget)
        self._resets = False
        train_step = backend.resetting_train_step(model, self._reset_metrics)
        # Of several steps in one execution, only the last one's loss comes out.
        run_single_steps(model, train_step, then=self._note_counter)
        steps = np.arange(self.num_steps)
        self._values = {n: evaluate(s, steps).astype(float) for n, s in schedules.items()}
        self._batches = scheduled.batches()
        self._skipped = 0
        self._losses_of_update: list[float] = []
        self._loss: list[float] = []
        self._smoothed: list[float] = []
        self._average = 0.0
        self._evaluated: list[int] = []
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
        # A model may make its train function of something else than its `train_step`.
        if not self._resets:
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
        batches = backend.to_int(self._counter)
        if batches == self._batches:
            self._skipped += 1
            if self._skipped >= MAX_SKIPPED_BATCHES:
                optimizer = self.model.optimizer
                reason = (
                    "the model's `train_step` made none with `model.optimizer` in"
                    if unwrap(optimizer) is optimizer
                    else "loss scaling skipped"
                )
                warnings.warn(
                    f"The range test ends after {len(self._loss)} of {self.num_steps} updates: "
                    f"{reason} the last {self._skipped} batches.",
                    stacklevel=2,
                )
                self._end()
            return
        self._batches = batches
        self._skipped = 0
        self._losses_of_update.append(self._loss_of_batch(logs))
        if self._scheduled.step(batches) > len(self._loss):
            self._add_point(float(np.mean(self._losses_of_update)))
            self._losses_of_update.clear()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if not self._ended:
            warnings.warn(
                f"The range test ends after {len(self._loss)} of {self.num_steps} updates, with the "
                f"data of `fit`. Give it more `epochs`, or use `{self.function}`; a generator must itself "
                "have enough batches.",
                stacklevel=2,
            )
        names = self._val_logs[0] if self._val_logs else {}
        validation = {name: np.array([seen[name] for seen in self._val_logs]) for name in names}
        points, evaluated = slice(len(self._loss)), np.array(self._evaluated, dtype=int)
        lr, momentum = self._values["learning_rate"], self._values.get("momentum")
        self.result = RangeTestResult(
            lr=lr[points],
            loss=np.array(self._loss),
            smoothed_loss=np.array(self._smoothed),
            mode=self.mode,
            val_lr=lr[evaluated],
            val_loss=validation.pop("loss", np.empty(0)),
            val_metrics=validation,
            momentum=None if momentum is None else momentum[points],
            val_momentum=None if momentum is None else momentum[evaluated],
        )
        self.restore()

    def _reset_metrics(self) -> None:
        # Traced with the step: a call before each batch would take longer than all else here.
        self._resets = True
        self._scheduled.model.reset_metrics()

    def _note_counter(self, result: Any) -> None:
        # Not `self.model`, with which Keras brings all that a JAX step holds back into the model.
        model, counter = self._scheduled.model, self._scheduled.counter
        self._counter = backend.value_after(result, model, counter)

    def _loss_of_batch(self, logs: dict[str, Any]) -> float:
        return float(logs["loss"])

    def _add_point(self, loss: float) -> None:
        step = len(self._loss)
        self._loss.append(loss)
        self._average = self.smoothing * self._average + (1 - self.smoothing) * loss
        smoothed = self._average / (1 - self.smoothing ** (step + 1))
        self._smoothed.append(smoothed)
        if self._progress is not None:
            self._progress.update(
                step + 1,
                [(self.moved, self._values[self.moved][step]), ("loss", loss)],
                finalize=False,
            )
        # Not `>`: NaN is above no limit.
        diverged = self.stop_factor is not None and not smoothed <= self._limit()
        last = step + 1 == self.num_steps
        if self.validation_data is not None and ((step + 1) % self.validation_freq == 0 or last):
            self._evaluated.append(step)
            self._val_logs.append(self._evaluate())
        if diverged or last:
            self._end()

    def _limit(self) -> float:
        lowest = min(self._smoothed)
        # Where the loss changes sign, its lowest may be next to 0 and is no measure of a rise.
        size = lowest if lowest > 0 else max(abs(lowest), abs(self._smoothed[0]))
        return lowest + (self.stop_factor - 1) * size

    def _evaluate(self) -> dict[str, float]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self.validation_data)
        return self.model.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            batch_size=self.validation_batch_size,
            steps=self.validation_steps,
            verbose=0,
            return_dict=True,
        )

    def _end(self) -> None:
        self._ended = True
        self.model.stop_training = True
        if self._progress is not None:
            self._progress.update(len(self._loss), finalize=True)


def run_range_test(
    finder: RangeTest,
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    **fit_arguments: Any,
) -> RangeTestResult:
    """Runs `finder` in `fit`, over the data as often as needed, and leaves no trace in the model."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a `keras.Model`. Received: model={model!r}")
    if not model.compiled:
        raise ValueError(
            "`model` is not compiled. Call `model.compile(optimizer=..., loss=...)` first. "
            f"Received: model={model!r}"
        )
    if model.optimizer is None:
        raise ValueError(
            "`model` was compiled without an optimizer, and has nothing to move in a range test. Call "
            "`model.compile(optimizer=..., loss=...)`. Received: optimizer=None"
        )
    if x is None:
        raise ValueError("`x` must be the training data, as `fit` takes it. Received: x=None")
    if verbose not in (0, 1, 2, "auto"):
        raise ValueError(f"`verbose` must be 0, 1, 2 or 'auto'. Received: verbose={verbose!r}")
    if callbacks is not None and not (
        isinstance(callbacks, (list, tuple))
        and all(isinstance(callback, keras.callbacks.Callback) for callback in callbacks)
    ):
        raise TypeError(
            "`callbacks` must be a list of `keras.callbacks.Callback`. "
            f"Received: callbacks={callbacks!r}"
        )
    for name in ("epochs", "initial_epoch", "validation_split"):
        if name in fit_arguments:
            raise ValueError(
                f"`{name}` is not for a range test, whose length is `num_steps` updates and whose "
                f"evaluations are on `validation_data`. Received: {name}={fit_arguments[name]!r}"
            )
    if verbose:
        finder._progress = keras.utils.Progbar(
            finder.num_steps,
            verbose=1 if verbose == "auto" else int(verbose),
            stateful_metrics=[finder.moved, "loss"],
            unit_name="update",
        )
    stop_training = model.stop_training
    history = vars(model).get("history")
    steps_per_execution = model.steps_per_execution
    _build(model, x)
    # Keras would go over the first batches of a generator again, and over nothing else, for ever.
    once = hasattr(x, "__next__") and fit_arguments.get("steps_per_epoch") is None
    try:
        # Before `fit`, which else would count several batches for each step.
        set_steps_per_execution(model, 1)
        model.fit(
            x,
            y,
            epochs=1 if once else sys.maxsize,
            verbose=0,
            callbacks=[finder, *(callbacks or [])],
            **fit_arguments,
        )
    finally:
        finder.restore()
        set_steps_per_execution(model, steps_per_execution)
        model.stop_training = stop_training
        vars(model).pop("history", None)
        if history is not None:
            model.history = history
    return finder.result


def _build(model: keras.Model, x: Any) -> None:
    """Gives an unbuilt model its variables, without running it, so that they can be copied."""
    if model.built:
        return
    if hasattr(x, "element_spec"):
        x = x.element_spec
        x = x[0] if isinstance(x, tuple) else x
    elif isinstance(x, keras.utils.PyDataset):
        x = x[0]
        x = x[0] if isinstance(x, tuple) else x
    # A `tf.TensorShape` may say that not even the number of dimensions is known.
    shapes = [getattr(leaf, "shape", None) for leaf in keras.tree.flatten(x)]
    if any(shape is None or getattr(shape, "rank", 0) is None for shape in shapes):
        raise ValueError(
            "The model is not built, and the shapes of this data are not known before it is read. Give "
            "the model a `keras.Input`, or call `model.build(input_shape)` first."
        )
    batch = keras.tree.map_structure(
        lambda leaf: keras.KerasTensor(
            (None, *leaf.shape[1:]), keras.backend.standardize_dtype(leaf.dtype)
        ),
        x,
    )
    try:
        model(batch)
    except Exception as error:
        raise ValueError(
            "The model is not built, and calling it on data of these shapes does not build it. Call it "
            "on a batch first; where it has no `call`, build its parts and set `model.built = True`. "
            f"Received: x of {batch!r}"
        ) from error


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
