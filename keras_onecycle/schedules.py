"""The policies: pure functions of the step, built on one interpolation.

A step is the number of optimizer updates before the present one, an integer tensor (or an array of
steps). Nothing here knows an optimizer or holds state.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_onecycle._arguments import (
    MAX_STEPS,
    check_bool,
    check_choice,
    check_float,
    check_int,
)

Schedule = Callable[[Any], Any]
"""A function of the step, an integer tensor, that returns a float tensor of the same shape."""

ANNEAL_STRATEGIES = ("linear", "cos")
RANGE_TEST_MODES = ("exponential", "linear")


def as_step(step: Any) -> Any:
    """Returns `step` as an integer tensor: as a float it would lose count at 2**24."""
    return ops.cast(step, "int")


def float_dtype() -> str:
    """The precision of schedules: float32, or more where `keras.config.floatx()` is more."""
    return keras.backend.result_type(keras.config.floatx(), "float32")


def evaluate(schedule: Schedule, steps: Any) -> np.ndarray:
    """Returns the values of a schedule at `steps`, an integer or an array."""
    if getattr(schedule, "func", schedule) in _IN_NUMPY_TOO:
        # What the step computes, without the backend, which would compile operation by operation.
        values = schedule(np.asarray(steps))
    else:
        values = ops.convert_to_numpy(schedule(as_step(steps)))
    # A schedule may be a constant, which has no shape of its own.
    return np.array(np.broadcast_to(values, np.shape(steps)))


def scaled(schedule: Schedule, factor: float) -> Schedule:
    """Returns a schedule whose values are those of another, times a factor."""
    if factor == 1:
        return schedule

    def times(step: Any) -> Any:
        return factor * schedule(step)

    # By which `evaluate` knows what it can do without the backend.
    times.func = getattr(schedule, "func", schedule)  # type: ignore[attr-defined]
    return times


def interpolate(
    step: Any, boundaries: Sequence[float], values: Sequence[float], anneal_strategy: str = "linear"
) -> Any:
    """Anneals from value to value between boundaries; holds the first and last value outside.

    A phase is computed from the end with the smaller value, and the distance to it is an integer before it
    becomes a float: neither a cycle of 1e9 steps nor a value of 1e-8 at the end of a phase that starts at 1
    loses its digits in float32.

    Args:
        step: Integer tensor of any shape, or NumPy array: then all is computed in NumPy.
        boundaries: Steps at which the phases meet, one more than there are phases. Only the last
            must be a whole number. A phase includes its end.
        values: Values at the boundaries.
        anneal_strategy: `"linear"`, or `"cos"` for half a cosine wave.

    Returns:
        Float tensor, or array, of the shape of `step`.
    """
    xp: Any = np if isinstance(step, np.ndarray) else ops
    to_float = np.asarray if xp is np else ops.cast
    step = xp.clip(step, 0, math.floor(boundaries[-1]))
    annealed = None
    for (start, end), (first, last) in zip(pairwise(boundaries), pairwise(values), strict=True):
        # A phase that has one step, where PyTorch divides by zero, is at its end; one that ends before it
        # starts has no step.
        begin = start if start < end else end - 1
        near, far, least, most = begin, end, first, last
        if abs(last) < abs(first):
            near, far, least, most = end, begin, last, first
        whole = math.floor(near)
        distance = to_float(step - whole, float_dtype()) - (near - whole)
        if anneal_strategy == "cos":
            # (1 - cos(pi * x)) / 2 without the cancellation near its zero.
            wave = xp.square(xp.sin(distance * (math.pi / 2 / (far - near))))
            phase = least + wave * (most - least)
        else:
            phase = least + distance * ((most - least) / (far - near))
        annealed = (
            phase if annealed is None else xp.where(step > math.floor(start), phase, annealed)
        )
    return annealed


def _cycle_boundaries(total_steps: int, pct_start: float, three_phase: bool) -> list[float]:
    """Steps at which the phases of PyTorch's `OneCycleLR` meet."""
    boundaries = [0.0, pct_start * total_steps - 1]
    if three_phase:
        boundaries.append(2 * pct_start * total_steps - 2)
    return [*boundaries, total_steps - 1.0]


def one_cycle_lr(
    step: Any,
    *,
    max_lr: float,
    total_steps: int,
    pct_start: float,
    anneal_strategy: str,
    div_factor: float,
    final_div_factor: float,
    three_phase: bool,
) -> Any:
    """The learning rate of the 1cycle policy: up, down, and (three phases) far down.

    Phase 1 goes from `max_lr / div_factor` to `max_lr`, phase 2 as long back to where it started,
    phase 3 to the start divided by `final_div_factor`. With two phases, phase 2 goes there directly.
    """
    initial_lr = max_lr / div_factor
    values = [initial_lr, max_lr, initial_lr] if three_phase else [initial_lr, max_lr]
    values.append(initial_lr / final_div_factor)
    boundaries = _cycle_boundaries(total_steps, pct_start, three_phase)
    return interpolate(step, boundaries, values, anneal_strategy)


def one_cycle_momentum(
    step: Any,
    *,
    base_momentum: float,
    max_momentum: float,
    total_steps: int,
    pct_start: float,
    anneal_strategy: str,
    three_phase: bool,
) -> Any:
    """The momentum of the 1cycle policy: down while the learning rate goes up, and back."""
    values = [max_momentum, base_momentum, max_momentum]
    if three_phase:
        values.append(max_momentum)
    boundaries = _cycle_boundaries(total_steps, pct_start, three_phase)
    return interpolate(step, boundaries, values, anneal_strategy)


def range_test_lr(step: Any, *, min_lr: float, max_lr: float, num_steps: int, mode: str) -> Any:
    """The learning rate of a range test: `min_lr` at step 0, `max_lr` at step `num_steps - 1`."""
    ends = [0.0, num_steps - 1.0]
    if mode == "linear":
        return interpolate(step, ends, [min_lr, max_lr])
    logarithm = interpolate(step, ends, [math.log(min_lr), math.log(max_lr)])
    return np.exp(logarithm) if isinstance(step, np.ndarray) else ops.exp(logarithm)


_IN_NUMPY_TOO = (interpolate, one_cycle_lr, one_cycle_momentum, range_test_lr)


def check_one_cycle(
    *,
    max_lr: float,
    pct_start: float,
    anneal_strategy: str,
    div_factor: float,
    final_div_factor: float,
    three_phase: bool,
) -> dict[str, Any]:
    """Returns the shape of a cycle, each argument checked and of its proper type."""
    check_bool("three_phase", three_phase)
    pct_start = check_float("pct_start", pct_start, 0, 1)
    if three_phase and pct_start > 0.5:
        # PyTorch takes it, and the rate then never comes down: phases 1 and 2 are equally long.
        raise ValueError(
            "`pct_start` must be at most 0.5 with `three_phase=True`, since the way down takes as "
            f"many steps as the way up. Received: pct_start={pct_start!r}"
        )
    return {
        "max_lr": check_float("max_lr", max_lr, 0, open_low=True),
        "pct_start": pct_start,
        "anneal_strategy": check_choice("anneal_strategy", anneal_strategy, ANNEAL_STRATEGIES),
        "div_factor": check_float("div_factor", div_factor, 0, open_low=True),
        "final_div_factor": check_float("final_div_factor", final_div_factor, 0, open_low=True),
        "three_phase": three_phase,
    }


@keras.saving.register_keras_serializable(package="keras_onecycle")
class OneCycleSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of the 1cycle policy as a Keras `LearningRateSchedule`.

    It changes the learning rate only. Use `OneCycle` to cycle momentum too, or with gradient accumulation,
    under which Keras counts batches, not updates, for a `LearningRateSchedule`.

    Example:

    >>> schedule = keras_onecycle.OneCycleSchedule(max_lr=1.0, total_steps=100)
    >>> optimizer = keras.optimizers.SGD(schedule, momentum=0.9)
    >>> [round(float(schedule(step)), 4) for step in (0, 44, 88, 99)]
    [0.1, 1.0, 0.1, 0.0]

    Args:
        max_lr: Float above 0. The highest learning rate.
        total_steps: Integer, at least 1. Steps in the cycle; past it, the last value is held.
        pct_start: Float in [0, 1] (with three phases, in [0, 0.5]). Fraction of the cycle spent
            going up. Defaults to `0.45`.
        anneal_strategy: `"linear"` or `"cos"`. Defaults to `"linear"`.
        div_factor: Float above 0. The first learning rate is `max_lr / div_factor`. Defaults to `10.0`.
        final_div_factor: Float above 0. The last is the first divided by this. Defaults to `1e4`.
        three_phase: Boolean. Whether the learning rate returns to where it started before it falls
            to its last value. Defaults to `True`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range.

    References:

    - [Smith, 2018, section 4.1](https://arxiv.org/abs/1803.09820)
    - [Smith and Topin, 2017, section 3](https://arxiv.org/abs/1708.07120)
    """

    def __init__(
        self,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.45,
        anneal_strategy: str = "linear",
        div_factor: float = 10.0,
        final_div_factor: float = 1e4,
        three_phase: bool = True,
    ) -> None:
        super().__init__()
        shape = check_one_cycle(
            max_lr=max_lr,
            pct_start=pct_start,
            anneal_strategy=anneal_strategy,
            div_factor=div_factor,
            final_div_factor=final_div_factor,
            three_phase=three_phase,
        )
        steps = check_int("total_steps", total_steps, 1, MAX_STEPS)
        self._config = {**shape, "total_steps": steps}

    def __call__(self, step: Any) -> Any:
        return one_cycle_lr(as_step(step), **self._config)

    def get_config(self) -> dict[str, Any]:
        return dict(self._config)
