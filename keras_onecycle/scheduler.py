"""The callback that puts schedules on an optimizer for the time of one `fit`."""

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np

from keras_onecycle._arguments import MAX_STEPS, check_int
from keras_onecycle._keras.callback import Callback
from keras_onecycle._keras.hyperparameters import ScheduledHyperparameters, batches_per_update
from keras_onecycle.schedules import Schedule, evaluate


class HyperparameterScheduler(Callback):
    """Base of callbacks that move hyperparameters each step, inside the compiled step.

    A subclass says in `schedules` what follows what. It is for `fit` as a callback, and with
    `attach` for `train_on_batch` and loops of your own.

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
            those that `fit` makes.
    """

    _of_one_fit = ("_scheduled",)

    def __init__(self, total_steps: int | None = None) -> None:
        super().__init__()
        self.total_steps = (
            None if total_steps is None else check_int("total_steps", total_steps, 1, MAX_STEPS)
        )
        self._scheduled: ScheduledHyperparameters | None = None
        self._planned_steps = self.total_steps
        self._first_step = self._next_step = 0
        self._batches = 0
        self._placed = False

    def schedules(self, total_steps: int) -> Mapping[str, Schedule]:
        """Returns what follows what: functions of the step, by the name of the hyperparameter.

        Args:
            total_steps: Integer, the optimizer updates in the schedule.

        Returns:
            Dict of functions that map an integer tensor, of any shape, to a float tensor of that
            shape. `"momentum"` stands for what the optimizer calls so (`beta_1` in Adam).
        """
        raise NotImplementedError(f"`{type(self).__name__}` must define `schedules(total_steps)`.")

    @property
    def history(self) -> dict[str, np.ndarray]:
        """The value that each update so far used, by name: one a step."""
        if self._attached and self._placed:
            self._count()
        return self._values(np.arange(self._first_step, self._next_step))

    def attach(self, target: keras.Model | keras.Optimizer) -> Self:
        """Puts the schedules on an optimizer, for `train_on_batch` or a loop of your own.

        The next update is step 0. Give the model, whose `train_on_batch` is then traced anew; or
        give the optimizer, before your own step function is traced. A function that was traced
        meanwhile has the schedules in it for good: trace your own anew after `detach`. For a part of
        a `MultiOptimizer` that is to call `model.compile` again, before and after.

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
        """Takes the schedules off: the optimizer's hyperparameters are the user's again.

        `fit` does this at its end. After an exception in `fit`, when Keras calls no callback, this
        method does it, or else the next `fit` of the model. A step function of your own that was
        traced before goes on with the schedules: trace it anew.
        """
        if self._attached:
            self._scheduled.detach()
            if self._placed:
                self._count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._attach(self.model, self._total_steps_in_fit(), in_fit=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Only now is it known where training goes on: `BackupAndRestore` may come later in the list.
        if not self._placed:
            self._scheduled.start = self._start_of_schedule(epoch)
            self._first_step = self._next_step = self._scheduled.step()
            self._placed = True
        self._batches = self._scheduled.batches()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._count()
        if self._scheduled.batches() == self._batches:
            warnings.warn(
                f"No batch of this epoch made an update with `model.optimizer`, which is what "
                f"`{type(self).__name__}` schedules: the model's `train_step` uses another optimizer, "
                "or loss scaling skipped them all. The logs of the epoch get no values.",
                stacklevel=2,
            )
        elif logs is not None:
            last = self._values(max(self._next_step - 1, self._first_step))
            logs.update({name: float(value) for name, value in last.items()})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.detach()

    @property
    def _attached(self) -> bool:
        return self._scheduled is not None and self._scheduled.attached

    def _attach(
        self, target: keras.Model | keras.Optimizer, total_steps: int, *, in_fit: bool
    ) -> None:
        scheduled = ScheduledHyperparameters(
            target, self.schedules(total_steps), owner=type(self).__name__
        )
        scheduled.attach(at_next_fit=self.detach if in_fit else None)
        self._scheduled = scheduled
        self._planned_steps = total_steps
        self._first_step = self._next_step = 0
        self._placed = not in_fit

    def _count(self) -> None:
        # After an error inside a step of JAX the optimizer has no values, and nothing can be counted.
        with contextlib.suppress(TypeError, RuntimeError):
            self._next_step = self._scheduled.step()

    def _values(self, steps: Any, total_steps: int | None = None) -> dict[str, np.ndarray]:
        schedules = self.schedules(total_steps or self._planned_steps or 1)
        return {name: evaluate(schedule, steps) for name, schedule in schedules.items()}

    def _total_steps_in_fit(self) -> int:
        if self.total_steps is not None:
            return self.total_steps
        steps, epochs = self.params["steps"], self.params["epochs"]
        if steps is None:
            raise ValueError(
                f"`{type(self).__name__}` cannot tell how many batches an epoch of this data has. Pass "
                f"`{type(self).__name__}(..., total_steps=...)`, the optimizer updates of the whole "
                "training, or `fit(..., steps_per_epoch=...)`. Received: total_steps=None"
            )
        return max(1, epochs * steps // batches_per_update(self.model.optimizer))

    def _start_of_schedule(self, epoch: int) -> int:
        """Returns the value of `optimizer.iterations` at step 0.

        At epoch 0 that is its value now, whatever training came before. Later, it is less by the
        updates that the epochs before this one made.
        """
        per_update = batches_per_update(self.model.optimizer)
        steps = self.params["steps"]
        if epoch == 0:
            return self._scheduled.iterations()
        if steps is None:
            return 0
        batches = self._scheduled.batches()
        if batches == 0:
            warnings.warn(
                f"Training begins at epoch {epoch} with an optimizer that has made no update. "
                f"`{type(self).__name__}` begins where that epoch is in its schedule all the same.",
                stacklevel=2,
            )
            return -(epoch * steps // per_update)
        # Less than 0 where loss scaling skipped updates: then the schedule began with the first.
        return max(0, batches - epoch * steps) // per_update
