"""The callback that puts schedules on an optimizer for the duration of one `fit`."""

import contextlib
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np

from keras_onecycle._arguments import MAX_STEPS, check_int
from keras_onecycle._keras.attachment import Attachment
from keras_onecycle._keras.callback import Callback, restored_epoch
from keras_onecycle._keras.optimizer_traits import batches_per_update, unwrap
from keras_onecycle.schedules import Schedule, evaluate


class HyperparameterScheduler(Callback):
    """Base class of callbacks that change hyperparameters at each step, inside the compiled step.

    A subclass defines `schedules`: functions of the step, by the name of the hyperparameter. Pass the
    callback to `fit`, or call `attach` for `train_on_batch` and your own loops.

    Example:

    >>> class WarmUp(keras_onecycle.HyperparameterScheduler):
    ...     def schedules(self, total_steps):
    ...         def rate(step):
    ...             return 0.1 * keras.ops.minimum(1.0, keras.ops.cast(step + 1, "float32") / 4)
    ...         return {"learning_rate": rate}
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(), loss="mse")
    >>> warm_up = WarmUp()
    >>> x, y = np.ones((48, 3)), np.ones((48, 1))
    >>> _ = model.fit(x, y, batch_size=8, verbose=0, callbacks=[warm_up])
    >>> warm_up.history["learning_rate"].round(3)
    array([0.025, 0.05 , 0.075, 0.1  , 0.1  , 0.1  ], dtype=float32)

    Args:
        total_steps: Integer, at least 1: optimizer updates in the schedule. Defaults to `None`:
            as many as `fit` makes.
        start_epoch: Integer, at least 0: the epoch, as `fit` counts them, at which the schedule begins.
            Defaults to `None`: epoch 0 if training continues with a used optimizer
            (`fit(..., initial_epoch=...)`, `BackupAndRestore`), otherwise the first epoch of `fit`.
    """

    _of_one_fit = ("_scheduled", "_thread")
    # Which trains, in `fit`.
    _thread: int | None = None

    # Learning rates of the parts of a `MultiOptimizer`, and schedules that a part may lack.
    _rates: Mapping[str, float] | Sequence[float] | None = None
    _optional: Sequence[str] = ()

    def __init__(self, total_steps: int | None = None, start_epoch: int | None = None) -> None:
        super().__init__()
        self.total_steps = (
            None if total_steps is None else check_int("total_steps", total_steps, 1, MAX_STEPS)
        )
        self.start_epoch = None if start_epoch is None else check_int("start_epoch", start_epoch, 0)
        self._history: dict[str, np.ndarray] = {}
        self._first_step = self._next_step = 0
        self._placed = False
        self._warned: set[str] = set()

    def schedules(self, total_steps: int) -> Mapping[str, Schedule]:
        """Returns the schedules: functions of the step, by the name of the hyperparameter.

        Args:
            total_steps: Integer, the optimizer updates in the schedule.

        Returns:
            Dict of functions that map an integer tensor, of any shape, to a float tensor of that
            shape. Names are those of the optimizer's arguments; `"momentum"` also stands for
            `beta_1` of the Adam family, and in Muon for `adam_beta_1` as well. With a
            `MultiOptimizer`, the learning rate is the default optimizer's, and the others keep their
            ratio to it.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must define `schedules(total_steps)`.")

    @property
    def history(self) -> dict[str, np.ndarray]:
        """The values of each update so far, by name: float arrays of shape `(updates,)`.

        They are recorded while training runs: changing an argument afterwards does not change them. Another
        thread than that of `fit` sees those that were recorded at the end of an epoch. A
        hyperparameter that the optimizer does not use has no values, and a warning says so. The names of
        a part of a `MultiOptimizer` include its key, as in `"learning_rate[backbone/.*]"`.
        """
        # On JAX, what reads the optimizer beside a step ends that step in an error.
        if self._thread in (None, threading.get_ident()):
            self._record()
        if not self._history and not self._next_step:
            return {name: np.empty(0, "float32") for name in self.schedules(self.total_steps or 1)}
        return dict(self._history)

    def attach(self, target: keras.Model | keras.Optimizer) -> Self:
        """Puts the schedules on an optimizer, for `train_on_batch` or your own loop.

        The next update is step 0. Pass the model, whose `train_on_batch` is then compiled again, or pass
        the optimizer before your own step function is traced. A traced step keeps the schedules: retrace
        it after `detach`.

        Args:
            target: A compiled `keras.Model`, or a `keras.Optimizer`.

        Returns:
            The callback itself: as a context manager it calls `detach` at the end.

        Raises:
            TypeError: If `target` is neither.
            ValueError: If `total_steps` was not given, or the optimizer cannot follow the schedules.
        """
        if self.total_steps is None:
            raise ValueError(
                f"Without `fit`, `{type(self).__name__}` cannot know the number of optimizer updates. "
                "Pass it when you create the callback. Received: total_steps=None"
            )
        self._attach(target, self.total_steps, in_fit=False)
        return self

    def detach(self) -> None:
        """Removes the schedules: the optimizer uses your own hyperparameters again.

        `fit` does this at its end. After an exception or Ctrl-C in `fit`, the next `fit` of the model does
        it, or you call this method. A step function of your own keeps the schedules until you retrace it.
        """
        if self._attached:
            self._scheduled.detach()
            self._record()
            self._scheduled = None  # type: ignore[assignment]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def undo_interrupted(self) -> None:
        """Detaches the schedules where the `fit` that they were attached in has ended."""
        if self._attached and self._scheduled.was_interrupted:
            self.detach()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        # Whether another schedule runs, and whether the length is known, is told before anything is touched.
        Attachment(self.model, {}, type(self).__name__)
        self._attach(self.model, self._updates(self._epochs), in_fit=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Only now is it known where training goes on: `BackupAndRestore` may come later in the list.
        if not self._placed:
            self._place(epoch)
        self._batches, self._seen = self._scheduled.batches(), 0
        self._record()
        if self._next_step >= self._total_steps:
            self._warn_once(
                "over",
                f"All {self._total_steps} steps of the schedule of `{type(self).__name__}` are done: further "
                "updates use its last values.",
            )

    # What it does may be done beside the next step.
    async_safe = True

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # Keras calls these from several threads, in any order.
        self._seen = max(self._seen, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        before, steps = self._next_step, self._steps
        self._record()
        batches = self._scheduled.batches() - self._batches
        self._ran_out |= steps is None or self._seen < steps
        if self._seen and not batches:
            self._warn_once(
                "no update",
                f"An epoch made no update with `model.optimizer`, which `{type(self).__name__}` schedules: "
                f"{self._why_no_update()}. The logs of such an epoch have no values.",
            )
        elif self.total_steps is None and steps is not None and batches > steps:
            self._warn_once(
                "more updates",
                f"An epoch of {steps} batches made {batches} updates with `model.optimizer`, but "
                f"`{type(self).__name__}` planned one for each batch, so its schedule ends early. Pass "
                "`total_steps`, the number of updates in the whole training. Received: total_steps=None",
            )
        if self._next_step > before and logs is not None:
            logs.update({name: float(values[-1]) for name, values in self._history.items()})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._record()
        if self._ran_out and not self.model.stop_training and self._next_step < self._total_steps:
            self._warn_once(
                "unfinished",
                f"The data ended at step {self._next_step} of {self._total_steps} of the schedule of "
                f"`{type(self).__name__}`.",
            )
        self.detach()

    def _attach(
        self, target: keras.Model | keras.Optimizer, total_steps: int, *, in_fit: bool
    ) -> None:
        if self._attached:
            raise ValueError(
                f"This `{type(self).__name__}` is attached already. Call its `detach()` first, or create "
                f"another. Received: target={target!r}"
            )
        schedules, owner = self.schedules(total_steps), type(self).__name__
        scheduled = Attachment(target, schedules, owner, rates=self._rates, optional=self._optional)
        scheduled.attach(at_next_fit=self.detach if in_fit else None)
        self._scheduled = scheduled
        self._thread = threading.get_ident() if in_fit else None
        self._total_steps = total_steps
        self._history = {}
        self._first_step = self._next_step = 0
        self._placed = not in_fit
        self._ran_out = False
        self._warned = set()

    def _place(self, epoch: int) -> None:
        """Finds the step of the schedule at which `fit` begins, in its first epoch."""
        start_epoch = self._start_epoch(epoch)
        pending = self._scheduled.batches() % batches_per_update(self.model.optimizer)
        self._total_steps = self._updates(
            self._epochs - start_epoch, pending if epoch == start_epoch else 0
        )
        made = self._scheduled.iterations()
        step = self._step_of(epoch, start_epoch, made)
        self._scheduled.plan(self.schedules(self._total_steps), start=made - step)
        self._first_step = self._next_step = step
        self._placed = True
        if self._steps is not None:
            self._check_length((self._epochs - epoch) * self._steps + pending)

    def _updates(self, epochs: int, pending: int = 0) -> int:
        """Returns the steps of the schedule, in `fit` the updates of so many epochs."""
        steps = self._steps
        if self.total_steps is not None:
            return self.total_steps
        if steps is None:
            raise ValueError(
                f"`{type(self).__name__}` cannot tell how many batches an epoch of this data has. Pass "
                f"`{type(self).__name__}(..., total_steps=...)`, the optimizer updates of the whole "
                "training, or `fit(..., steps_per_epoch=...)`; in a loop of your own, "
                "`CallbackList(..., epochs=..., steps=...)`. Received: total_steps=None"
            )
        updates = (epochs * steps + pending) // batches_per_update(self.model.optimizer)
        if updates > MAX_STEPS:
            raise ValueError(
                f"`fit` would make {updates} updates, and a schedule has at most {MAX_STEPS}. Pass "
                f"`{type(self).__name__}(..., total_steps=...)`, after which the last values are held. "
                f"Received: epochs={self._epochs}, total_steps=None"
            )
        return max(1, updates)

    def _start_epoch(self, epoch: int) -> int:
        if self.start_epoch is None:
            return 0 if self._scheduled.batches() else epoch
        if self.start_epoch > epoch:
            raise ValueError(
                f"`start_epoch` must be at most the epoch that training begins at, {epoch}. "
                f"Received: start_epoch={self.start_epoch}"
            )
        return self.start_epoch

    def _step_of(self, epoch: int, start_epoch: int, made: int) -> int:
        """Returns the step of the schedule at which an epoch begins, after `made` updates.

        It is the number of updates that the epochs since `start_epoch` make with the present batches, so
        that a training goes on with another batch size; where that is not known, of those made. Nobody has
        to say that this is right if a backup was restored that has as many batches: one inside an epoch has
        more, and under loss scaling, which skips some, less.
        """
        if epoch == start_epoch:
            return 0
        steps, step, is_sure = self._steps, made, False
        if steps is not None:
            step = (epoch - start_epoch) * steps // batches_per_update(self.model.optimizer)
            more = self._scheduled.batches() - epoch * steps
            least = 0 if unwrap(self.model.optimizer) is self.model.optimizer else 1 - steps
            is_sure = restored_epoch(self.model) == epoch and least <= more <= steps
            if is_sure and more == steps:
                self._warn_once(
                    "twice",
                    f"The backup has the weights of the end of epoch {epoch + 1}, which is trained again, at "
                    f"the same steps of `{type(self).__name__}`: training was killed between the two files "
                    "of a backup, or `save_freq` ends with the epoch.",
                )
        if self.start_epoch is None and not is_sure:
            self._warn_once(
                "guess",
                f"`{type(self).__name__}` continues at step {step} of {self._total_steps}, as in a training "
                f"that started at epoch {start_epoch}. Pass `start_epoch={start_epoch}` if that is right, or "
                f"`start_epoch={epoch}` for a new schedule. Received: start_epoch=None",
            )
        return step

    def _check_length(self, batches: int) -> None:
        """Warns where the batches of `fit` make no update, or too few for the schedule."""
        updates = batches // batches_per_update(self.model.optimizer)
        if not updates:
            self._warn_once(
                "no update",
                f"`fit` makes no update: an update takes {batches_per_update(self.model.optimizer)} batches "
                f"(`gradient_accumulation_steps`), and `fit` has {batches}.",
            )
        elif self._next_step + updates < self._total_steps:
            self._warn_once(
                "unfinished",
                f"`fit` makes {updates} updates, up to step {self._next_step + updates} of "
                f"{self._total_steps} of the schedule of `{type(self).__name__}`, and another `fit` begins a "
                "new one. For one schedule over several calls of `fit`, call them inside "
                "`with cycle.attach(model):`, without the callback, or resume with `initial_epoch`.",
            )

    @property
    def _epochs(self) -> int:
        return (self.params or {}).get("epochs", 0)

    @property
    def _steps(self) -> int | None:
        """The batches of an epoch, where they are known."""
        return self.params.get("steps") if "epochs" in (self.params or {}) else None

    @property
    def _attached(self) -> bool:
        return self._scheduled is not None and self._scheduled.attached

    def _record(self) -> None:
        """Appends the values of the updates that were made since the last call."""
        if self._scheduled is None or not self._placed:
            return
        # After an error inside a step of JAX the optimizer has no values, and nothing can be counted.
        with contextlib.suppress(TypeError, RuntimeError):
            step = max(self._next_step, self._scheduled.step())
            if step > self._next_step:
                self._append(np.arange(self._next_step, step))
            self._next_step = step

    def _append(self, steps: np.ndarray) -> None:
        unused = self._scheduled.unused()
        if unmatched := self._scheduled.unmatched():
            self._warn_once("unmatched", unmatched)
        if not self._scheduled.traced:
            self._warn_once(
                "traced",
                f"The step was traced before `attach`, so {len(steps)} updates did not follow the schedule "
                f"of `{type(self).__name__}`. Trace it again after `attach`, or attach the model.",
            )
        elif unused:
            self._warn_once(
                "unused",
                f"`{type(self._scheduled.optimizer).__name__}` does not use "
                f"{', '.join(f'`{name}`' for name in unused)}: its updates do not follow that schedule of "
                f"`{type(self).__name__}`, and `history` has no values of it.",
            )
        history = dict(self._history)
        for name, schedule in self._scheduled.schedules.items():
            if name not in unused:
                values = evaluate(schedule, steps)
                history[name] = np.concatenate([history.get(name, values[:0]), values])
        # At once: another thread may be reading.
        self._history = history

    def _why_no_update(self) -> str:
        if not self.model.trainable_variables:
            return "the model has no trainable variables, since every layer is frozen"
        if unwrap(self.model.optimizer) is not self.model.optimizer:
            return "loss scaling skipped every batch, or the model's `train_step` uses another optimizer"
        return "the model's `train_step` uses another optimizer"

    def _warn_once(self, about: str, message: str) -> None:
        """Warns, the first time in a `fit` that there is something to say about this."""
        if about not in self._warned:
            self._warned.add(about)
            warnings.warn(message, stacklevel=3)
