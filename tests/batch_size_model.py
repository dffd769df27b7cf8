"""A model whose memory is known from the batch size, and processes that train it under a limit.

usage: python tests/batch_size_model.py train BYTES BATCH_SIZE    ends with 0 if it can
       python tests/batch_size_model.py find BYTES                searches in this process, prints JSON
"""

import json
import os
import resource
import signal
import sys
from typing import Any

import keras
import numpy as np

from keras_onecycle.search import find_batch_size
from keras_onecycle.search.memory import data_size


@keras.saving.register_keras_serializable()
class Pairs(keras.layers.Layer):
    """Each sample beside each other: a matrix of batch size x batch size floats."""

    def call(self, x: Any) -> Any:
        pairs = keras.ops.tanh(keras.ops.matmul(x, keras.ops.transpose(x)))
        return keras.ops.mean(pairs, axis=1, keepdims=True)


@keras.saving.register_keras_serializable()
class Killed(keras.layers.Layer):
    """What the kernel does when its own memory runs out, to batches above 8."""

    def call(self, x: Any) -> Any:
        if x.shape[0] == 16:
            os.kill(os.getpid(), signal.SIGKILL)
        return x


@keras.saving.register_keras_serializable()
class Huge(keras.layers.Layer):
    """A batch of one takes a float, one of two 2**43 floats, which no machine has."""

    def call(self, x: Any) -> Any:
        size = x.shape[0]
        values = keras.ops.broadcast_to(x[:1, :1], (size**21, size**22))
        return x + keras.ops.stop_gradient(keras.ops.cumsum(values, axis=1)[-1:, :1])

    def compute_output_shape(self, shape: tuple) -> tuple:
        return shape


@keras.saving.register_keras_serializable()
class Silent(keras.layers.Layer):
    """Takes 250 kB x batch size ** 3, and does not say what it is that it cannot do."""

    def call(self, x: Any) -> Any:
        try:
            np.empty((x.shape[0] or 0) ** 3 * 250_000, "uint8")
        except MemoryError:
            raise RuntimeError("operation failed: error") from None
        return x

    def compute_output_shape(self, shape: tuple) -> tuple:
        return shape


@keras.saving.register_keras_serializable()
class Wrong(keras.layers.Layer):
    """Fails in training, for another reason than memory."""

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            raise ValueError("no training today")
        return x


@keras.saving.register_keras_serializable()
def absolute_error(y_true: Any, y_pred: Any) -> Any:
    """A loss function that Keras does not know."""
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def build(*layers: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    first = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((4,)), *first, *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), loss=absolute_error, metrics=["mae"])
    return model


def state(model: keras.Model) -> list[np.ndarray]:
    groups = (model.variables, model.optimizer.variables, model.metrics_variables)
    return [np.array(variable.value) for group in groups for variable in group]


def train(limit: int, batch_size: int) -> None:
    model = build(Pairs())
    x, y = (np.resize(array, (batch_size, array.shape[1])) for array in data())
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for _ in range(4):
        model.train_on_batch(x, y)
    # On JAX, a step fails without an error: reading what it made raises it.
    state(model)


def find(room: int) -> None:
    x, y = data()
    model = build(Pairs())
    model.fit(x, y, batch_size=16, verbose=0)
    before, train_function = state(model), model.train_function
    limit = data_size() + room
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    result = find_batch_size(
        model,
        x,
        y,
        min_batch_size=4096,
        max_batch_size=2**14,
        tolerance=1,
        in_process=True,
        verbose=0,
    )
    told = {
        "batch_sizes": result.batch_sizes.tolist(),
        "out_of_memory": result.out_of_memory,
        "restored": all(map(np.array_equal, state(model), before)),
        "same_function": model.train_function is train_function,
    }
    model.fit(x, y, batch_size=16, verbose=0)
    updates = int(np.array(model.optimizer.iterations.value))
    finite = all(np.isfinite(values).all() for values in state(model))
    print(json.dumps({**told, "trained": updates == 8 and bool(finite)}))


if __name__ == "__main__":
    {"train": train, "find": find}[sys.argv[1]](*map(int, sys.argv[2:]))
