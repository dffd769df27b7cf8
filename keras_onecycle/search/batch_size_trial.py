"""One try of a batch size: a few training steps on one batch, timed."""

import gc
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_onecycle._keras import backend
from keras_onecycle._keras.compiled_step import set_steps_per_execution
from keras_onecycle._keras.snapshot import Snapshot

# A function of the batch size that returns the seconds of each step, or raises `DoesNotFitError`.
Trial = Callable[[int], list[float]]

# The step is traced in the first.
_WARM_UP = 1


class DoesNotFitError(Exception):
    """A batch is too large for the memory; the message says how that showed."""


def describe(error: Exception) -> str:
    """Returns what an error of `is_out_of_memory` says about it, in one line."""
    plain = re.sub(r"\x1b\[\d+m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    said = [line for line in lines if backend.says_out_of_memory(line)]
    return f"{type(error).__name__}: {(said or lines or ['no memory'])[0]}"


def time_steps(model: keras.Model, x: Any, y: Any, steps: int) -> list[float]:
    """Trains on one batch over and over, and returns the seconds of each step after the warm-up."""
    # Before the clock starts: in a training, data is brought to the device beside the steps.
    x, y = (
        None if data is None else keras.tree.map_structure(keras.ops.convert_to_tensor, data)
        for data in (x, y)
    )
    set_steps_per_execution(model, 1)
    times = []
    for _ in range(_WARM_UP + steps):
        start = time.perf_counter()
        model.train_on_batch(x, y)
        backend.wait(model)
        times.append(time.perf_counter() - start)
    return times[_WARM_UP:]


def take_rows(data: Any, count: int) -> Any:
    """Returns the first `count` rows of each array, from the start again where it has fewer."""

    def rows(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf[:count])
        if len(array) < count:
            array = array[np.arange(count) % len(array)]
        if np.issubdtype(array.dtype, np.floating):
            # As `fit` does.
            array = array.astype(keras.config.floatx(), copy=False)
        return array

    return None if data is None else keras.tree.map_structure(rows, data)


@contextmanager
def in_this_process(model: keras.Model, x: Any, y: Any, steps: int) -> Iterator[Trial]:
    """Gives the function that tries a batch size on the model itself and puts the model back."""
    was_made = model.train_function is not None
    # Takes off the schedule of a `fit` that was interrupted, as the next `fit` would.
    model.make_train_function()
    train_function = model.train_function if was_made else None
    snapshot = Snapshot(model)

    def trial(batch_size: int) -> list[float]:
        try:
            return time_steps(model, take_rows(x, batch_size), take_rows(y, batch_size), steps)
        except Exception as error:
            if not backend.is_out_of_memory(error):
                raise
            message = describe(error)
        finally:
            model.train_function = train_function
            snapshot.restore()
            # What a step that failed left in cycles is memory that the next one needs.
            gc.collect()
        # Outside the handler: the traceback of what was handled holds the arrays of the step.
        raise DoesNotFitError(message)

    yield trial
