"""What the package asks of an optimizer: its parts, its counter, and which of its floats may be scheduled."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import keras

# What an optimizer's momentum is called: SGD, RMSprop and Muon; the Adam family; Muon's Adam part.
_MOMENTUM_NAMES = ("momentum", "beta_1", "adam_beta_1")

# The key of the optimizer that `max_lr` is for.
DEFAULT = ""

# Newer than the oldest Keras that is supported.
_MULTI = getattr(keras.optimizers, "MultiOptimizer", ())
_SCHEDULE_FREE = getattr(keras.optimizers, "ScheduleFreeAdamW", ())


def unwrap(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Returns the optimizer that makes the updates, out of a `LossScaleOptimizer`."""
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer


def batches_per_update(optimizer: keras.Optimizer) -> int:
    """Returns the number of batches that make one update: 1, or more under gradient accumulation."""
    return parts_of(unwrap(optimizer))[DEFAULT].gradient_accumulation_steps or 1


def counter_of(optimizer: keras.Optimizer) -> keras.Variable:
    """Returns the variable that counts batches; `iterations` counts updates."""
    return optimizer.variables[0]


def parts_of(optimizer: keras.Optimizer) -> dict[str, keras.Optimizer]:
    """Returns the optimizers that make the updates: the one given, or those of a `MultiOptimizer` by key."""
    if not isinstance(optimizer, _MULTI):
        return {DEFAULT: optimizer}
    # Private: nothing public leads to the keys.
    by_key = optimizer._optimizer_map
    if not isinstance(by_key, keras.optimizers.OptimizerMap):
        raise ValueError(
            "A `MultiOptimizer` can follow a schedule if it has a default optimizer and keys. Create it "
            f"with a `keras.optimizers.OptimizerMap`. Received: optimizer_map={by_key!r}"
        )
    parts = {DEFAULT: by_key.default_optimizer}
    for key, part in by_key.items():
        if not any(part is other for other in parts.values()):
            parts[key] = part
    return parts


def default_part(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Returns the optimizer whose learning rate `max_lr` is."""
    return parts_of(check_schedulable(optimizer))[DEFAULT]


def relative_rates(
    optimizer: keras.Optimizer, rates: Mapping[str, float] | Sequence[float] | None
) -> dict[str, float]:
    """Returns what the learning rate of each part is in units of the default one's."""
    parts = parts_of(optimizer)
    if rates is None:
        found = {key: user_value(part, "learning_rate") for key, part in parts.items()}
        if not found[DEFAULT] and len(found) > 1:
            raise ValueError(
                "The parts of a `MultiOptimizer` keep the ratios of their learning rates, so that of the "
                "default optimizer must be above 0. Received: learning_rate=0.0"
            )
    elif isinstance(rates, Mapping):
        found = {DEFAULT if key == "default" else key: rate for key, rate in rates.items()}
    else:
        in_order = [*(key for key in parts if key != DEFAULT), DEFAULT]
        found = dict(zip(in_order, rates, strict=False)) if len(rates) == len(parts) else {}
    if found.keys() != parts.keys():
        names = ["default", *(key for key in parts if key != DEFAULT)]
        raise ValueError(
            f"`max_lr` must have a learning rate for each part of the optimizer: be a dict by {names}, or a "
            f"list of {len(parts)} with that of the default optimizer last. Received: max_lr={rates!r}"
        )
    return {key: 1.0 if key == DEFAULT else rate / found[DEFAULT] for key, rate in found.items()}


def check_schedulable(optimizer: Any) -> keras.Optimizer:
    """Returns the innermost optimizer, or says why its learning rate can follow no schedule."""
    if not isinstance(optimizer, keras.Optimizer):
        raise TypeError(
            "The optimizer must be a `keras.Optimizer`; a model with several optimizers of its own has no "
            f"single learning rate to schedule. Received: optimizer={optimizer!r}"
        )
    optimizer = unwrap(optimizer)
    if isinstance(optimizer, _MULTI):
        parts = parts_of(optimizer).values()
        if len({part.gradient_accumulation_steps or 1 for part in parts}) > 1:
            raise ValueError(
                "The parts of a `MultiOptimizer` must make the same number of updates. Give all of them the "
                "same `gradient_accumulation_steps`. Received: "
                f"{[part.gradient_accumulation_steps for part in parts]}"
            )
    for part in parts_of(optimizer).values():
        _check_part(part)
    return optimizer


def _check_part(optimizer: keras.Optimizer) -> None:
    kind = type(optimizer).__name__
    if isinstance(optimizer, _SCHEDULE_FREE):
        raise ValueError(
            "`ScheduleFreeAdamW` cannot follow a schedule: it averages its weights under a constant "
            "learning rate and momentum. Use `keras.optimizers.AdamW`."
        )
    if isinstance(optimizer, keras.optimizers.Adafactor) and optimizer.relative_step:
        raise ValueError(
            "`Adafactor` caps its learning rate at `1 / sqrt(step)`, and would not follow the schedule. "
            "Create it with `Adafactor(..., relative_step=False)`. Received: relative_step=True"
        )
    learning_rate = optimizer.get_config().get("learning_rate")
    if learning_rate is None:
        raise ValueError(
            f"`{kind}.get_config()` has no `learning_rate`. Return what `super().get_config()` returns in it."
        )
    if not isinstance(learning_rate, float):
        raise ValueError(
            "The optimizer already has a learning rate schedule, and would follow both. Create it "
            f"with a float, as in `{kind}(learning_rate=0.01)`. Received: learning_rate={learning_rate!r}"
        )


def momentum_names(optimizer: keras.Optimizer) -> list[str]:
    """Returns the names of the attributes that hold the optimizer's momentum."""
    optimizer = unwrap(optimizer)
    kind = type(optimizer).__name__
    config = optimizer.get_config()
    names = [name for name in _MOMENTUM_NAMES if name in config]
    if not names:
        raise ValueError(
            f"`{kind}` has no momentum to move. Use an optimizer with momentum, or move the learning "
            "rate alone, as `OneCycle(..., cycle_momentum=False)` does."
        )
    for name in names:
        if not config[name]:
            # No slot variables exist for it: a momentum set later would do nothing.
            raise ValueError(
                f"`{kind}` was created with `{name}={config[name]!r}` and keeps no velocities, so there "
                f"is no momentum to move. Create it with `{kind}(..., {name}=0.9)`, or move the "
                "learning rate alone, as `OneCycle(..., cycle_momentum=False)` does."
            )
    return names


def has_momentum(optimizer: keras.Optimizer) -> bool:
    """Whether `momentum_names` has names for the optimizer."""
    try:
        return bool(momentum_names(optimizer))
    except ValueError:
        return False


def user_value(optimizer: keras.Optimizer, name: str) -> float:
    """Returns the number that the user gave the optimizer for a hyperparameter."""
    value = optimizer.get_config().get(name)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(
            f"`{type(optimizer).__name__}` has no number `{name}` to schedule. Received: {name}={value!r}"
        )
    return float(value)
