"""The base of the range tests: a callback that moves a hyperparameter, and puts the model back."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_onecycle._arguments import MAX_STEPS, check_float, check_int
from keras_onecycle._keras import backend
from keras_onecycle._keras.attachment import Attachment
from keras_onecycle._keras.callback import Callback
from keras_onecycle._keras.compiled_step import compile_single_step
from keras_onecycle._keras.loss_parts import samples_counter
from keras_onecycle._keras.optimizer_traits import unwrap
from keras_onecycle._keras.snapshot import Snapshot
from keras_onecycle.range_tests._recorder import Recorder
from keras_onecycle.range_tests._stop_rule import LossCurve
from keras_onecycle.range_tests._validation import Validation
from keras_onecycle.range_tests.result import RangeTestResult
from keras_onecycle.schedules import Schedule, evaluate

# A test ends when this many batches in a row made no update: loss scaling skips a few at first, and
# all of them once the weights are NaN.
MAX_SKIPPED_BATCHES = 100


class RangeTest(Callback):
    """Base of the range tests: a hyperparameter moves each update of `fit`, until the loss diverges.

    A subclass returns in `schedules` what moves. The arguments are those of `LRFinder`.
    """

    _of_one_fit = ("_snapshot", "_scheduled", "_counts")

    mode = "linear"
    # What moves, and what the progress bar calls it.
    moved = "learning_rate"
    shown: str | None = None
    # What a part of a `MultiOptimizer` may lack.
    optional: Sequence[str] = ()

    def __init__(
        self,
        num_steps: int = 100,
        stop_factor: float | None = 4.0,
        smoothing: float = 0.98,
        validation_data: Any = None,
        validation_freq: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.num_steps = check_int("num_steps", num_steps, 2, MAX_STEPS)
        if stop_factor is not None:
            stop_factor = check_float("stop_factor", stop_factor, 1, open_low=True)
        self.stop_factor = stop_factor
        self.smoothing = check_float("smoothing", smoothing, 0, 1, open_high=True)
        self._validation = Validation(
            validation_data,
            validation_freq,
            validation_steps,
            validation_batch_size,
            self.num_steps,
        )
        self.result: RangeTestResult | None = None
        self._snapshot: Snapshot | None = None

    @property
    def total_steps(self) -> int:
        """The most updates that the test makes."""
        return self.num_steps

    def schedules(self) -> Mapping[str, Schedule]:
        """Returns `"learning_rate"`, and what else moves, as functions of the step."""
        raise NotImplementedError(f"`{type(self).__name__}` must define `schedules()`.")

    def check(self) -> None:
        """Raises an error where the model, or its optimizer, cannot be tested."""
        model = self.model
        self._schedule(model)
        if model.built and not model.trainable_variables:
            raise ValueError(
                "The model has no trainable variables: every layer is frozen, or none has weights. Set "
                f"`layer.trainable = True` and compile it again. Received: model={model!r}"
            )

    def _schedule(self, model: keras.Model) -> Attachment:
        owner = type(self).__name__
        return Attachment(model, self.schedules(), owner, optional=self.optional)

    def restore(self) -> None:
        """Puts model and optimizer back as they were before the test.

        `fit` does this at its end, after all callbacks, and the function that runs the test in any case.
        After an exception or Ctrl-C in a `fit` of your own, when Keras calls no callback, call it yourself:
        another `fit` would go on with the weights that the test left.
        """
        if self._snapshot is None:
            return
        self._scheduled.detach()
        self._snapshot.restore()
        # As `fit` itself begins: a test that stopped early has stopped no later training.
        self._snapshot.model.stop_training = False
        self._snapshot = None

    def progress(self) -> tuple[int, float, float]:
        """Returns the updates that were made, and value and loss of the last."""
        curve = self._recorder.curve
        if not curve.steps:
            return 0, 0.0, 0.0
        return self._recorder.updates, self._values[self.moved][curve.steps[-1]], curve.loss[-1]

    def _forget(self) -> None:
        # Training that follows an interrupted test must not be undone by a later `restore`.
        self._snapshot = None
        warnings.warn(
            "A range test was interrupted and not undone: this training continues with the weights "
            "that it left. Call `finder.restore()` after an interruption, before any other `fit`.",
            stacklevel=2,
        )

    def undo_interrupted(self) -> None:
        """Restores the model: what a test left that was interrupted is not where the next one begins."""
        self.restore()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.check()
        model, schedules = self.model, self.schedules()
        self._scheduled = self._schedule(model)
        self._snapshot = Snapshot(model)
        self._resets = False
        self._scheduled.attach(at_next_fit=self._forget, compile_step=self._compile_step)
        steps = np.arange(self.num_steps)
        self._values = {n: evaluate(s, steps).astype(float) for n, s in schedules.items()}
        curve = LossCurve(self.num_steps, self.smoothing, self.stop_factor)
        self._recorder = Recorder(curve, self._scheduled.batches())
        self._evaluations: list[tuple[int, dict[str, Any]]] = []
        self._ended = False
        self.result = None
        # Last of all: others set weights when training ends, as `EarlyStopping` does.
        self._restores_later = self._scheduled.at_end_of_fit(self.restore)

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
        if self._ended:
            return
        logs = logs or {}
        if "loss" not in logs:
            raise ValueError(
                "A range test needs the loss: the logs of the model's `train_step` must have a `loss`. "
                f"Received: logs with {sorted(logs)}"
            )
        counter, samples = self._counts
        batches, recorder = backend.to_number(counter), self._recorder
        if recorder.add_batch(
            self._loss_of_batch(logs),
            # A `train_step` that returns its loss itself counts no samples.
            1.0 if samples is None else backend.to_number(samples) or 1.0,
            batches,
            self._scheduled.step(batches),
        ):
            self._after_update(recorder.curve)
        else:
            self._after_skipped(recorder.skipped)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if not self._ended:
            self._warn_end(
                "because the data ran out: a generator must itself yield enough batches, and a `fit` of your "
                "own needs more `epochs` (`lr_find` repeats other data by itself)"
            )
        self.result = self._collect()
        if not self._restores_later:
            self.restore()

    def _collect(self) -> RangeTestResult | None:
        curve = self._recorder.curve
        names = self._evaluations[0][1] if self._evaluations else {}
        validation = {n: np.array([seen[n] for _, seen in self._evaluations]) for n in names}
        points = np.array(curve.steps, dtype=int)
        evaluated = np.array([step for step, _ in self._evaluations], dtype=int)
        lr, momentum = self._values["learning_rate"], self._values.get("momentum")
        return RangeTestResult(
            lr=lr[points],
            loss=np.array(curve.loss),
            smoothed_loss=np.array(curve.smoothed),
            mode=self.mode,
            val_lr=lr[evaluated],
            val_loss=validation.pop("loss", np.empty(0)),
            val_metrics=validation,
            momentum=None if momentum is None else momentum[points],
            val_momentum=None if momentum is None else momentum[evaluated],
        )

    def _compile_step(self, model: keras.Model) -> None:
        # Not each time `self.model`, with which Keras brings all that a JAX step holds into the model.
        counter, samples = self._scheduled.counter, samples_counter(model)
        read = [counter] if samples is None else [counter, samples]

        def note_counts(result: Any) -> None:
            self._counts = (*backend.values_after(result, model, read), None)[:2]

        # Of several steps in one execution, only the last one's loss comes out.
        train_step = backend.resetting_train_step(model, self._reset_metrics)
        compile_single_step(model, train_step, note_counts)

    def _reset_metrics(self) -> None:
        # Traced with the step: a call before each batch would take longer than all else here. Where a
        # metric reads a value to reset itself, which no trace has, it is such a call all the same.
        try:
            self._scheduled.model.reset_metrics()
        except Exception:
            return
        self._resets = True

    def _loss_of_batch(self, logs: dict[str, Any]) -> float:
        return float(np.reshape(logs["loss"], ()))

    def _after_update(self, curve: LossCurve) -> None:
        step, reason = curve.steps[-1], curve.stop_reason()
        updates = self._recorder.updates
        last = updates >= self.num_steps
        if len(curve.loss) == 1 and (unmatched := self._scheduled.unmatched()):
            warnings.warn(unmatched, stacklevel=3)
        if len(curve.loss) == 1 and (unused := self._scheduled.unused()):
            raise ValueError(
                f"`{type(self._scheduled.optimizer).__name__}` does not use `{unused[0]}`: a "
                "range test of it shows nothing."
            )
        if self._validation.is_due(updates, last=last):
            self._evaluations.append((step, self._evaluate()))
        if reason is not None and 10 * step < self.num_steps:
            self._warn_end(f"at {self.moved}={self._values[self.moved][step]:.3g}: {reason}")
        if reason is not None or last:
            self._end()

    def _after_skipped(self, batches: int) -> None:
        if batches < MAX_SKIPPED_BATCHES:
            return
        optimizer = self.model.optimizer
        reason = (
            "because the model's `train_step` made none with `model.optimizer` in"
            if unwrap(optimizer) is optimizer
            else "because loss scaling skipped"
        )
        self._warn_end(f"{reason} the last {batches} batches")
        self._end()

    def _warn_end(self, reason: str) -> None:
        warnings.warn(
            f"The range test ends after {self._recorder.updates} of {self.num_steps} updates {reason}.",
            stacklevel=3,
        )

    def _evaluate(self) -> dict[str, Any]:
        return self._validation.evaluate(self.model)

    def _end(self) -> None:
        self._ended = True
        self.model.stop_training = True
