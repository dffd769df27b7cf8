"""What differs between the backends, and nothing else."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")


def check_backend(name: str) -> None:
    """Raises an error for a backend that does not train."""
    if name not in BACKENDS:
        raise ImportError(
            f"keras_onecycle trains with Keras on {', '.join(BACKENDS)}. Set the environment variable "
            f"KERAS_BACKEND to one of them. Received: KERAS_BACKEND={name}"
        )


check_backend(keras.backend.backend())


def register_tensor_like(cls: Any) -> None:
    """Lets the functions of the backend take objects of a class made of a float and a tensor, its `value`."""
    if keras.backend.backend() == "jax":
        import jax

        # The functions of `jax.numpy` are compiled: they take arrays and nodes of trees of arrays.
        jax.tree_util.register_pytree_node(
            cls,
            lambda tensor_like: ((tensor_like.value,), tensor_like.user_value),
            lambda user_value, children: cls(user_value, *children),
        )


def in_step(tensor_like: Any) -> Any:
    """Returns what an optimizer finds instead of a float: in PyTorch's eager step a float again."""
    return float(tensor_like.value) if keras.backend.backend() == "torch" else tensor_like


def check_compile(model: keras.Model) -> None:
    """Raises an error where the compiled step would hold what is scheduled as a constant."""
    if keras.backend.backend() == "torch" and model.jit_compile:
        raise ValueError(
            "On PyTorch, a step with `jit_compile=True` cannot follow a schedule. Compile the model "
            "with `jit_compile=False`. Received: jit_compile=True"
        )


def as_tensor(value: Any, dtype: Any) -> Any:
    """Returns a tensor of TensorFlow in the dtype that one of its functions asks for."""
    import tensorflow as tf

    return tf.convert_to_tensor(value, dtype)


def is_concrete(value: Any) -> bool:
    """Whether a tensor has a value now, outside a trace."""
    try:
        float(value)
    except TypeError:
        return False
    return True


def sync(model: keras.Model) -> None:
    """Brings what a JAX train step holds back into the variables of the model."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def after_data(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a `train_step` none of which runs where there is no batch of data.

    On TensorFlow a dataset of unknown length ends inside a step: what depends on the batch is not done, but
    Keras counts the update and applies weight decay all the same.
    """
    if keras.backend.backend() != "tensorflow":
        return train_step
    import tensorflow as tf

    def create(creator: Callable[..., Any], **arguments: Any) -> Any:
        with outside_step():
            return creator(**arguments)

    def step(data: Any) -> Any:
        parts = tf.nest.flatten(data, expand_composites=True)
        batch = [part for part in parts if tf.is_tensor(part)]
        with tf.control_dependencies(batch), tf.variable_creator_scope(create):
            return train_step(data)

    return step


def outside_step() -> contextlib.AbstractContextManager[None]:
    """Where variables are made, whose first values must not wait for a batch of data."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.control_dependencies(None)


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


def set_train_step(model: keras.Model, train_step: Callable[..., Any]) -> None:
    """Makes a train function of `train_step` where `make_train_function` has not read it yet."""
    if keras.backend.backend() == "torch":
        model.train_function = lambda data: train_step(data[0])


def values_after(result: Any, model: keras.Model, variables: Sequence[keras.Variable]) -> list[Any]:
    """Returns the values of variables of the optimizer and the metrics after a call of the train function.

    On JAX they are in what it returned; `sync` would take a millisecond for a hundred variables.
    """
    if keras.backend.backend() != "jax":
        return list(variables)
    _, (_, _, *values) = result
    known: dict[int, Any] = {}
    for group, those in zip(
        (model.optimizer.variables, model.metrics_variables), values, strict=True
    ):
        known |= {id(variable): value for variable, value in zip(group, those, strict=True)}
    return [known[id(variable)] for variable in variables]


def random_state() -> Any:
    """Returns the global random state with which the backend shuffles arrays, where it has one: PyTorch."""
    if keras.backend.backend() != "torch":
        return None
    import torch

    return torch.get_rng_state()


def set_random_state(state: Any) -> None:
    """Puts back what `random_state` returned."""
    if state is not None:
        import torch

        torch.set_rng_state(state)


def is_variable(thing: Any) -> bool:
    """Whether `thing` is a variable of Keras or of the backend; in PyTorch, a tensor is one."""
    if isinstance(thing, keras.Variable):
        return True
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return isinstance(thing, tf.Variable)
    if keras.backend.backend() == "torch":
        import torch

        # A parameter is the value of a variable of Keras; a symbolic tensor has none.
        is_parameter = isinstance(thing, torch.nn.Parameter)
        return isinstance(thing, torch.Tensor) and not (is_parameter or thing.is_meta)
    return False


def is_buffer(thing: Any) -> bool:
    """Whether `thing` is a tensor of a PyTorch module, which is no variable of Keras."""
    is_of_torch = keras.backend.backend() == "torch" and not isinstance(thing, keras.Variable)
    return is_of_torch and is_variable(thing)


def holders() -> tuple[type, ...]:
    """Returns the classes of the backend whose objects hold variables."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.Module, tf.random.Generator
    if keras.backend.backend() == "torch":
        import torch

        return (torch.nn.Module,)
    return ()


def _copies(variable: Any) -> tuple[Any, ...]:
    """The value of the variable, or under `tf.distribute` the copy of it that each replica has."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    strategy = getattr(value, "distribute_strategy", None)
    return (value,) if strategy is None else strategy.experimental_local_results(value)


def read(variable: Any) -> list[np.ndarray]:
    """Returns the value in host memory, one for each replica.

    A real copy, not a view: JAX hands the buffers of its state over to the next step.
    """
    arrays = [np.asarray(keras.ops.convert_to_numpy(copy)) for copy in _copies(variable)]
    # TensorFlow has copied it already.
    return [array if array.flags.owndata else array.copy() for array in arrays]


# Bytes that are written into a variable at once.
_PIECE = 2**24


def write(variable: Any, values: list[np.ndarray]) -> None:
    """Assigns what `read` returned."""
    if keras.backend.backend() != "tensorflow":
        (value,) = values
        if isinstance(variable, keras.Variable):
            variable.assign(value)
        else:
            variable.data.copy_(keras.ops.convert_to_tensor(value))
        return
    for copy, value in zip(_copies(variable), values, strict=True):
        if value.nbytes <= _PIECE:
            copy.assign(value)
            continue
        # At once, the variable would be in memory a second time meanwhile.
        rows = max(1, _PIECE * len(value) // value.nbytes)
        for start in range(0, len(value), rows):
            copy[start : start + rows].assign(value[start : start + rows])


def to_number(scalar: Any) -> Any:
    """Returns a tensor or variable as a Python integer or float."""
    # Not `np.array`, which a variable under `tf.distribute` does not go into in its strategy's scope.
    return keras.ops.convert_to_numpy(scalar).item()


def wait(model: keras.Model) -> None:
    """Waits until the training step is done, and raises the error that it ended in.

    On JAX a step that runs out of memory may end without one, and leaves it to who reads the weights.
    """
    if keras.backend.backend() == "jax":
        import jax

        variables = (*model.variables, *model.optimizer.variables)
        jax.block_until_ready([variable.value for variable in variables])
    elif keras.backend.backend() == "torch":
        if not is_on_cpu():
            import torch

            torch.cuda.synchronize()
    else:
        import tensorflow as tf

        tf.test.experimental.sync_devices()


def is_on_cpu() -> bool:
    """Whether the backend has no accelerator."""
    if keras.backend.backend() == "torch":
        import torch

        return not torch.cuda.is_available()
    return all(device.startswith("cpu") for device in keras.distribution.list_devices())
