"""What differs between the backends, and nothing else."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops


def replica_scope(variable: keras.Variable) -> contextlib.AbstractContextManager:
    """The `tf.distribute` scope that `variable` was made in; a scope that does nothing elsewhere."""
    strategy = getattr(variable.value, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def sync(model: keras.Model) -> None:
    """Brings what a JAX train step holds back into the variables of the model."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def _components(variable: keras.Variable) -> tuple[Any, ...]:
    """The variable itself, or on TensorFlow the copy of it that each replica has."""
    if keras.backend.backend() != "tensorflow":
        return (variable,)
    strategy = getattr(variable.value, "distribute_strategy", None)
    if strategy is None:
        return (variable,)
    return strategy.experimental_local_results(variable.value)


def read(variable: keras.Variable) -> list[np.ndarray]:
    """Returns a real copy of the value in host memory, one for each replica.

    A view is not enough: JAX hands the buffers of its state over to the next step.
    """
    tensors = [ops.convert_to_tensor(part) for part in _components(variable)]
    return [np.array(ops.convert_to_numpy(tensor)) for tensor in tensors]


def write(variable: keras.Variable, values: list[np.ndarray]) -> None:
    """Assigns what `read` returned."""
    for part, value in zip(_components(variable), values, strict=True):
        part.assign(value)
