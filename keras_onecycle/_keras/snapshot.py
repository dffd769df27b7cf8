"""Copy and restore of the state of a model and all that belongs to it."""

import collections
import contextlib
import random
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_onecycle._keras import backend
from keras_onecycle._keras.compiled_step import set_steps_per_execution

_LIBRARIES = {*sys.stdlib_module_names, "keras", "tensorflow", "jax", "jaxlib", "torch", "numpy"}
_HOLDERS = (
    keras.Layer,
    keras.Optimizer,
    keras.Loss,
    keras.Metric,
    keras.random.SeedGenerator,
    types.SimpleNamespace,
    collections.UserList,
    *backend.holders(),
)


class Snapshot:
    """One copy, in host memory, of every variable that training changes.

    These are the variables of the model, its optimizer and its metrics, and those that are reached from
    them: through attributes of layers, optimizers, losses, metrics and objects of classes of the user's own,
    and through containers. So the states of stateful RNNs, a second optimizer, a variable of a loss and the
    buffers of PyTorch's modules are among them. What is not: a variable that only a function knows (a
    closure, a global), and Keras's global seed. What was not built is not built again.
    """

    def __init__(self, model: keras.Model) -> None:
        if not model.built:
            raise ValueError(
                f"The model must be built before its state can be copied. Received: model={model!r}. "
                "Give it a `keras.Input`, or call `model.build(input_shape)` or the model on a batch "
                "of data."
            )
        self.model = model
        backend.sync(model)
        self._unbuilt = _Unbuilt(model)
        self._copies: list[tuple[Any, list[np.ndarray]]] = [
            (thing, backend.read(thing)) for thing in _reach(model) if backend.is_variable(thing)
        ]

    def restore(self) -> None:
        """Puts back the values, and what was not built."""
        self.restore_values()
        self._unbuilt.restore()

    def restore_values(self) -> None:
        """Assigns the copies, bit for bit. Metrics that were made since are reset."""
        backend.sync(self.model)
        # An error in the first batch leaves variables on JAX without a value: assign, never read. A metric
        # of the user's may read one to reset itself; what is written below counts.
        with contextlib.suppress(Exception):
            self.model.reset_metrics()
        for variable, values in self._copies:
            backend.write(variable, values)


def build_optimizer(model: keras.Model) -> None:
    """Makes the variables of the optimizer, if its first step has not made them yet.

    For whatever is trained: a `train_step` may train variables that are not the model's own.
    """
    if not model.optimizer.built:
        own = {id(variable) for variable in (*model.variables, *model.metrics_variables)}
        others = [
            thing
            for thing in _reach(model)
            if isinstance(thing, keras.Variable) and thing.trainable and id(thing) not in own
        ]
        model.optimizer.build([*model.trainable_variables, *others])


class _Unbuilt:
    """The optimizers, losses and metrics of a model that are not built yet, to be so again.

    An optimizer is built at its first step, with what is trainable then.
    """

    def __init__(self, model: keras.Model) -> None:
        kinds = (keras.Optimizer, keras.Loss, keras.Metric)
        parts = [t for t in _reach(model) if isinstance(t, kinds) and not getattr(t, "built", True)]
        self._kept = [kept for part in parts for kept in _contents(vars(part), set())]

    def restore(self) -> None:
        """Puts back what they held, in the same containers."""
        for container, contents in self._kept:
            # By the methods of Python's own class: those of Keras and TensorFlow note each change.
            if isinstance(container, list):
                list.__setitem__(container, slice(None), contents)
            else:
                kind: Any = dict if isinstance(container, dict) else set
                kind.clear(container)
                kind.update(container, contents)


def _contents(container: Any, seen: set[int]) -> Iterator[tuple[Any, Any]]:
    """Goes through a container and those in it, each with a copy of its contents."""
    if id(container) in seen:
        return
    seen.add(id(container))
    kind = next((kind for kind in (dict, list, set) if issubclass(type(container), kind)), None)
    if kind is not None:
        yield container, kind(container)
        inner = container.values() if kind is dict else container
        for value in list(inner):
            yield from _contents(value, seen)
    # Containers of Keras and TensorFlow have attributes; a tracker knows what an object holds.
    if (kind is not None and hasattr(container, "__dict__")) or hasattr(container, "stored_ids"):
        yield from _contents(vars(container), seen)


def _reach(model: keras.Model) -> Iterator[Any]:
    """Goes through all that is reached from a model: the variables, and what holds them."""
    # The things too: another one may get the `id` of one that is gone.
    seen: dict[int, Any] = {}
    left: list[Any] = [model, model.variables, model.metrics_variables]
    while left:
        thing = left.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if backend.is_variable(thing):
            yield thing
        elif isinstance(thing, Mapping):
            left.extend(thing.values())
        elif isinstance(thing, (list, tuple, set, frozenset, collections.deque)):
            left.extend(thing)
        elif isinstance(thing, _HOLDERS) or _is_of_the_user(thing):
            yield thing
            # Its attributes, those in slots too.
            left.append(object.__getstate__(thing))


def _is_of_the_user(thing: Any) -> bool:
    """Whether a thing is an object with attributes, and not of Python or a library that Keras stands on."""
    library = type(thing).__module__.partition(".")[0]
    return not isinstance(thing, type) and library not in _LIBRARIES


class FitTraces:
    """What `fit` leaves beside variables: `history`, `stop_training` and other global random states.

    On JAX and PyTorch `fit` also builds, before it calls a callback, what is not built yet; PyTorch's
    modules are called for that, and may count it in their buffers. NumPy's, Python's and PyTorch's random
    states are put back. TensorFlow's is not, nor what data keep themselves: a `tf.data.Dataset` that shuffles
    goes on in another order.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._unbuilt = _Unbuilt(model)
        self._buffers = [(t, backend.read(t)) for t in _reach(model) if backend.is_buffer(t)]
        self._history = vars(model).get("history")
        self._stop_training = model.stop_training
        self._steps_per_execution = model.steps_per_execution
        self._random_states = random.getstate(), np.random.get_state(), backend.random_state()

    def remove(self) -> None:
        """Puts back what was there."""
        model = self._model
        self._unbuilt.restore()
        for buffer, values in self._buffers:
            backend.write(buffer, values)
        set_steps_per_execution(model, self._steps_per_execution)
        model.stop_training = self._stop_training
        vars(model).pop("history", None)
        if self._history is not None:
            model.history = self._history
        of_python, of_numpy, of_backend = self._random_states
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        backend.set_random_state(of_backend)
