"""Copy and restore of the state of a model and its optimizer."""

import keras
import numpy as np

from keras_onecycle._keras import backend


class Snapshot:
    """One copy, in host memory, of every variable that training changes.

    That is the weights, the statistics of BatchNorm, the states of seed generators, the optimizer's
    slots and counters, and the metrics.

    Args:
        model: A built and compiled `keras.Model`. An optimizer that is not built yet is built here,
            as the first step of `fit` would do, so that its variables can be copied.

    Raises:
        ValueError: If the model is not built.
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
        variables = {
            id(variable): variable
            for group in (model.variables, model.optimizer.variables, model.metrics_variables)
            for variable in group
        }
        self._copies: list[tuple[keras.Variable, list[np.ndarray]]] = [
            (variable, backend.read(variable)) for variable in variables.values()
        ]

    def restore(self) -> None:
        """Assigns the copies, bit for bit. Metrics that were made since are reset."""
        backend.sync(self.model)
        # An error in the first batch leaves variables on JAX without a value: assign, never read.
        self.model.reset_metrics()
        for variable, values in self._copies:
            backend.write(variable, values)
