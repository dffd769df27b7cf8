"""Short cycles at several learning rates, each from the same weights: what will be done, in small."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from keras_onecycle._keras import backend
from keras_onecycle._keras.optimizer_traits import (
    batches_per_update,
    default_part,
    has_momentum,
    parts_of,
    unwrap,
)
from keras_onecycle._keras.snapshot import build_optimizer
from keras_onecycle.one_cycle import OneCycle
from keras_onecycle.range_tests._range_test import RangeTest
from keras_onecycle.range_tests._recorder import Recorder
from keras_onecycle.range_tests._short_cycles_rule import Ladder
from keras_onecycle.range_tests._stop_rule import LossCurve
from keras_onecycle.range_tests.result import RangeTestResult
from keras_onecycle.schedules import Schedule

# Short cycles at most.
MAX_CYCLES = 4
# The last part of a short cycle, whose mean loss counts.
_COUNTED = 0.4
# A short cycle has diverged when this many batches in a row made no update.
_SKIPPED = 20


def ladder_of(result: RangeTestResult) -> Ladder | None:
    """Returns the learning rates of short cycles, or `None` where no loss is finite.

    They begin where the curve says, and where it is noise, at a tenth of its last rate.
    """
    finite = result.lr[np.isfinite(result.loss)]
    if not len(finite):
        return None
    try:
        with warnings.catch_warnings():
            # The short cycles go on to higher rates, if need be.
            warnings.simplefilter("ignore")
            return Ladder(result.suggest("edge"))
    except ValueError:
        return Ladder(float(finite[-1]) / 10)


def batches_of_cycle(model: keras.Model, cycle_steps: int) -> int:
    """Returns how many batches a cycle of so many updates takes."""
    return cycle_steps * batches_per_update(unwrap(model.optimizer))


class ShortCycles(RangeTest):
    """Trains one cycle after another in `fit`, from the same weights, at the rates of a `Ladder`.

    Args:
        ladder: A `Ladder`, which takes the losses.
        cycle_steps: Integer, at least 2: updates of each cycle.
    """

    shown = "max_lr"
    optional = ("momentum",)

    def __init__(self, ladder: Ladder, cycle_steps: int) -> None:
        super().__init__(cycle_steps, stop_factor=None)
        self.ladder = ladder

    @property
    def total_steps(self) -> int:
        """The most updates there can be."""
        return self.num_steps * MAX_CYCLES

    def schedules(self) -> Mapping[str, Schedule]:
        """Returns a cycle whose highest rate is the variable of the optimizer, and so no constant."""
        optimizer = unwrap(self.model.optimizer)
        self._rate = rate = default_part(optimizer).learning_rate
        schedules = dict(OneCycle(max_lr=1.0).schedules(self.num_steps))
        cycle = schedules["learning_rate"]
        schedules["learning_rate"] = lambda step: ops.convert_to_tensor(rate) * cycle(step)
        if not any(map(has_momentum, parts_of(optimizer).values())):
            del schedules["momentum"]
        return schedules

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        # Before the copy: each cycle begins with its first values. `lr_find` takes the building back.
        build_optimizer(self.model)
        super().on_train_begin(logs)
        self._begin(cast(float, self.ladder.next()))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins the cycle that waits for the first batch of the data."""
        super().on_epoch_begin(epoch, logs)
        if self._next is not None:
            self._begin(self._next)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes the loss of the batch, unless the next cycle waits."""
        if self._next is None:
            super().on_train_batch_end(batch, logs)

    def progress(self) -> tuple[int, float, float]:
        """Returns the updates that were made, the highest rate of this cycle, and the last loss."""
        losses, ladder = self._recorder.curve.loss, self.ladder
        made = len(ladder.lr) * self.num_steps
        if self._ended or self._next is not None or not losses:
            return made, ladder.lr[-1] if ladder.lr else 0.0, ladder.loss[-1] if ladder.lr else 0.0
        return made + self._recorder.updates, self._max_lr, losses[-1]

    def _begin(self, max_lr: float) -> None:
        self._next: float | None = None
        if self.ladder.lr and self._snapshot is not None:
            self._snapshot.restore_values()
        self._max_lr = max_lr
        backend.write(self._rate, [np.full_like(v, max_lr) for v in backend.read(self._rate)])
        curve = LossCurve(self.num_steps, self.smoothing, None)
        self._recorder = Recorder(curve, self._scheduled.batches())

    def _after_update(self, curve: LossCurve) -> None:
        diverged = not math.isfinite(curve.loss[-1])
        if diverged or self._recorder.updates >= self.num_steps:
            counted = curve.loss[-max(1, round(_COUNTED * self.num_steps)) :]
            self._end_cycle(math.inf if diverged else float(np.mean(counted)))

    def _end_cycle(self, loss: float) -> None:
        self.ladder.add(self._max_lr, loss)
        max_lr = self.ladder.next() if len(self.ladder.lr) < MAX_CYCLES else None
        if max_lr is None:
            self._end()
        elif self._recorder.updates < self.num_steps and self.params.get(
            "steps"
        ) == batches_of_cycle(self.model, self.num_steps):
            # It diverged before the end of the data: the next cycle is to get the same batches.
            self._next = max_lr
        else:
            self._begin(max_lr)

    def _after_skipped(self, batches: int) -> None:
        # Loss scaling skips a few at first, and all of them once the weights are NaN.
        if batches >= _SKIPPED:
            self._end_cycle(math.inf)

    def _warn_end(self, reason: str) -> None:
        warnings.warn(
            f"The short cycles end after {len(self.ladder.lr)} of up to {MAX_CYCLES} {reason}.",
            stacklevel=3,
        )

    def _collect(self) -> None:
        return None
