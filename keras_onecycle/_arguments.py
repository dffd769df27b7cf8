"""Checks of what a user passes: each error names the argument and what it got."""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import keras

# Steps are counted in the integers of the backend, which have 32 bits.
MAX_STEPS = 2**31 - 1


def check_float(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Returns `value` as a float inside `[low, high]`; an open end is excluded."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"`{name}` must be a number. Received: {name}={value!r} of type {type(value).__name__}"
        )
    number = float(value)
    below = number <= low if open_low else number < low
    above = number >= high if open_high else number > high
    if not math.isfinite(number) or below or above:
        left, right = "(" if open_low else "[", ")" if open_high else "]"
        if high == math.inf:
            wanted = f"{'greater than' if open_low else 'at least'} {low:g}"
        else:
            wanted = f"in {left}{low:g}, {high:g}{right}"
        raise ValueError(f"`{name}` must be a finite number {wanted}. Received: {name}={value!r}")
    return number


def check_int(name: str, value: Any, low: int = 1, high: float = math.inf) -> int:
    """Returns `value` as an int inside `[low, high]`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(
            f"`{name}` must be an integer. Received: {name}={value!r} of type {type(value).__name__}"
        )
    number = int(value)
    if number < low:
        raise ValueError(f"`{name}` must be at least {low}. Received: {name}={value!r}")
    if number > high:
        raise ValueError(f"`{name}` must be at most {high}. Received: {name}={value!r}")
    return number


def check_bool(name: str, value: Any, *, or_else: str | None = None) -> bool:
    """Returns `value`, which must be True or False; the error tells what else would do."""
    if not isinstance(value, bool):
        wanted = "True or False" if or_else is None else f"True, False or {or_else!r}"
        raise TypeError(
            f"`{name}` must be {wanted}. Received: {name}={value!r} of type {type(value).__name__}"
        )
    return value


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Returns `value`, which must be one of `choices`."""
    if not isinstance(value, str):
        raise TypeError(
            f"`{name}` must be a string. Received: {name}={value!r} of type {type(value).__name__}"
        )
    if value not in choices:
        wanted = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {wanted}. Received: {name}={value!r}")
    return value


def check_compiled(name: str, model: Any) -> keras.Model:
    """Returns `model`, which must be a model that is compiled with an optimizer."""
    if not isinstance(model, keras.Model) or getattr(model, "optimizer", None) is None:
        error = ValueError if isinstance(model, keras.Model) else TypeError
        raise error(
            f"`{name}` must be a `keras.Model` that is compiled with an optimizer, by "
            f"`model.compile(optimizer=..., loss=...)`. Received: {name}={model!r}"
        )
    return model
