"""Training steps that are timed and undone."""

import gc
import statistics
import time
from typing import Any

import keras

from keras_onecycle._keras import backend
from keras_onecycle._keras.compiled_step import compile_single_step
from keras_onecycle._keras.snapshot import Snapshot

# Steps that are timed.
_STEPS = 3


class TrialSteps:
    """Trains a model on one batch for a few steps, and puts the model back."""

    def __init__(self, model: keras.Model) -> None:
        self._snapshot = Snapshot(model)
        was_made = model.train_function is not None
        # Takes off the schedule of a `fit` that was interrupted, as the next `fit` would.
        model.make_train_function()
        self._model = model
        self._train_function = model.train_function if was_made else None

    def time(self, x: Any, y: Any) -> float:
        """Returns the median of the seconds of a few steps, after a first one that traces."""
        model = self._model
        try:
            # A training brings its data to the device beside the steps.
            x, y = (
                None
                if part is None
                else keras.tree.map_structure(keras.ops.convert_to_tensor, part)
                for part in (x, y)
            )
            compile_single_step(model, model.train_step, after_step=lambda result: None)
            times = []
            for _ in range(1 + _STEPS):
                start = time.perf_counter()
                model.train_on_batch(x, y)
                backend.wait(model)
                times.append(time.perf_counter() - start)
            return statistics.median(times[1:])
        finally:
            model.train_function = self._train_function
            self._snapshot.restore()
            # What a step that failed left in reference cycles is memory that the next one needs.
            gc.collect()
