"""What differs between the backends, and nothing else."""

import contextlib
from typing import Any

import keras
import numpy as np


def replica_scope(variable: keras.Variable) -> contextlib.AbstractContextManager:
    """The `tf.distribute` scope that `variable` was made in; a scope that does nothing elsewhere."""
    strategy = getattr(variable.value, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def sync(model: keras.Model) -> None:
    """Brings what a JAX train step holds back into the variables of the model."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def _copies(variable: keras.Variable) -> tuple[Any, ...]:
    """The value of the variable, or under `tf.distribute` the copy of it that each replica has."""
    strategy = getattr(variable.value, "distribute_strategy", None)
    if strategy is None:
        return (variable.value,)
    return strategy.experimental_local_results(variable.value)


def read(variable: keras.Variable) -> list[np.ndarray]:
    """Returns the value in host memory, one for each replica.

    A real copy, not a view: JAX hands the buffers of its state over to the next step.
    """
    return [np.array(copy) for copy in _copies(variable)]


def write(variable: keras.Variable, values: list[np.ndarray]) -> None:
    """Assigns what `read` returned."""
    if len(values) == 1:
        variable.assign(values[0])
        return
    for copy, value in zip(_copies(variable), values, strict=True):
        copy.assign(value)


def to_int(scalar: Any) -> int:
    """Returns an integer tensor or variable as a Python integer."""
    return int(np.array(getattr(scalar, "value", scalar)))
