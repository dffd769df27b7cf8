"""What differs between the backends, and nothing else."""

import contextlib
from collections.abc import Callable
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


def resetting_train_step(model: keras.Model, reset_metrics: Callable[[], None]) -> Any:
    """Returns the model's `train_step` with a call of `reset_metrics` before it, traced with it."""
    train_step = model.train_step
    if keras.backend.backend() != "jax":

        def step(data: Any) -> Any:
            reset_metrics()
            return train_step(data)

        return step

    def step_of_state(state: Any, data: Any) -> Any:
        *others, metrics = state
        variables = model.metrics_variables
        with keras.StatelessScope(list(zip(variables, metrics, strict=True))) as scope:
            reset_metrics()
        metrics = [scope.get_current_value(variable) for variable in variables]
        return train_step((*others, metrics), data)

    return step_of_state


def value_after(result: Any, model: keras.Model, variable: keras.Variable) -> Any:
    """Returns the value of a variable of the optimizer, given what the train function returned.

    On JAX it is in there; `sync` would take a millisecond for a hundred variables.
    """
    if keras.backend.backend() != "jax":
        return variable
    _, (_, _, optimizer_variables, _) = result
    variables = model.optimizer.variables
    (index,) = (i for i, known in enumerate(variables) if known is variable)
    return optimizer_variables[index]


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
    arrays = [np.asarray(copy) for copy in _copies(variable)]
    # TensorFlow has copied it already.
    return [array if array.flags.owndata else array.copy() for array in arrays]


# Bytes that are written into a variable at once.
_PIECE = 2**24


def write(variable: keras.Variable, values: list[np.ndarray]) -> None:
    """Assigns what `read` returned."""
    if keras.backend.backend() != "tensorflow":
        (value,) = values
        variable.assign(value)
        return
    for copy, value in zip(_copies(variable), values, strict=True):
        if value.nbytes <= _PIECE:
            copy.assign(value)
            continue
        # At once, the variable would be in memory a second time meanwhile.
        rows = max(1, _PIECE * len(value) // value.nbytes)
        for start in range(0, len(value), rows):
            copy[start : start + rows].assign(value[start : start + rows])


def to_int(scalar: Any) -> int:
    """Returns an integer tensor or variable as a Python integer."""
    return int(np.array(getattr(scalar, "value", scalar)))


def wait(model: keras.Model) -> None:
    """Waits until the training step is done, and raises the error that it ended in.

    On JAX a step that runs out of memory may end without one, and leaves it to who reads the weights.
    """
    if keras.backend.backend() == "jax":
        import jax

        variables = (*model.variables, *model.optimizer.variables)
        jax.block_until_ready([variable.value for variable in variables])
    else:
        import tensorflow as tf

        tf.test.experimental.sync_devices()


# What errors say that are of no class of their own: those of TensorFlow, also where it finds no room
# for a constant, of JAX, and of CUDA's libraries.
_OUT_OF_MEMORY = (
    "oom when allocating",
    "cannot parse tensor from proto",
    "resource_exhausted",
    "out of memory",
    "out_of_memory",
    "alloc_failed",
    "cannot allocate memory",
    "std::bad_alloc",
)


def says_out_of_memory(text: str) -> bool:
    """Whether `text` is what a backend says when memory runs out."""
    return any(known in text.lower() for known in _OUT_OF_MEMORY)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the backend, NumPy or Python raised `error` because memory ran out."""
    if isinstance(error, MemoryError):
        return True
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(error, tf.errors.ResourceExhaustedError):
            return True
    # Keras raises a layer's error again, as one of another class that has the message in it.
    return says_out_of_memory(str(error))
