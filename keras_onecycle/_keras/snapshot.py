"""Copy and restore of the state of a model and all that belongs to it."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_onecycle._keras import backend
from keras_onecycle._keras.compiled_step import set_steps_per_execution

_HOLDERS = (
    keras.Layer,
    keras.Optimizer,
    keras.Loss,
    keras.Metric,
    keras.random.SeedGenerator,
)


class Snapshot:
    """One copy, in host memory, of every variable that training changes.

    These are the variables of the model, its optimizer and its metrics, and those that are reached from
    them: an attribute of a layer, optimizer, loss or metric, or in a list or dict of one. So the states of
    stateful RNNs, a second optimizer and a variable of a loss are among them. What is not: a variable that
    only a function knows (a closure, a global), and Keras's global seed.
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
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._copies: list[tuple[Any, list[np.ndarray]]] = [
            (variable, backend.read(variable)) for variable in _variables(model)
        ]

    def restore(self) -> None:
        """Assigns the copies, bit for bit. Metrics that were made since are reset."""
        backend.sync(self.model)
        # An error in the first batch leaves variables on JAX without a value: assign, never read.
        self.model.reset_metrics()
        for variable, values in self._copies:
            backend.write(variable, values)


def _variables(model: keras.Model) -> Iterator[Any]:
    seen: set[int] = set()
    left: list[Any] = [
        model,
        model.variables,
        model.optimizer.variables,
        model.metrics_variables,
    ]
    while left:
        thing = left.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if backend.is_variable(thing):
            yield thing
        elif isinstance(thing, Mapping):
            left.extend(thing.values())
        elif isinstance(thing, (list, tuple, set, frozenset)):
            left.extend(thing)
        elif isinstance(thing, _HOLDERS):
            left.extend(vars(thing).values())


class FitTraces:
    """What `fit` leaves beside variables: `history`, `stop_training` and other global random states.

    NumPy's and Python's are put back. TensorFlow's is not: a `tf.data.Dataset` that shuffles without a seed
    goes on in another order.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._history = vars(model).get("history")
        self._stop_training = model.stop_training
        self._steps_per_execution = model.steps_per_execution
        self._random_states = random.getstate(), np.random.get_state()

    def remove(self) -> None:
        """Puts back what was there."""
        model = self._model
        set_steps_per_execution(model, self._steps_per_execution)
        model.stop_training = self._stop_training
        vars(model).pop("history", None)
        if self._history is not None:
            model.history = self._history
        of_python, of_numpy = self._random_states
        random.setstate(of_python)
        np.random.set_state(of_numpy)
