"""A model whose memory is known from the batch size, and a search under a limit of the kernel.

usage: python tests/batch_size_model.py BYTES

It finds the batch size with so many BYTES more than it has, and prints as JSON what came out.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_onecycle.search import batch_size, find_batch_size


class Pairs(keras.layers.Layer):
    """Each sample beside each other: a matrix of batch size x batch size floats."""

    def call(self, x: Any) -> Any:
        pairs = keras.ops.tanh(keras.ops.matmul(x, keras.ops.transpose(x)))
        return keras.ops.mean(pairs, axis=1, keepdims=True)


class Huge(keras.layers.Layer):
    """A batch of one takes a float, one of two 2**43 floats, which no machine has."""

    def call(self, x: Any) -> Any:
        size = x.shape[0]
        values = keras.ops.broadcast_to(x[:1, :1], (size**21, size**22))
        return x + keras.ops.stop_gradient(keras.ops.cumsum(values, axis=1)[-1:, :1])

    def compute_output_shape(self, shape: tuple) -> tuple:
        return shape


def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def build(*layers: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    first = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((4,)), *first, *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    return model


def state(model: keras.Model) -> list[np.ndarray]:
    groups = (model.variables, model.optimizer.variables, model.metrics_variables)
    return [
        np.array(keras.ops.convert_to_numpy(variable)) for group in groups for variable in group
    ]


def data_size() -> int:
    """The bytes of this process that `RLIMIT_DATA` counts."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmData:")[2].split()[0])


def find(room: int) -> None:
    x, y = data()
    model = build(Pairs())
    model.fit(x, y, batch_size=16, verbose=0)
    before, train_function = state(model), model.train_function
    limit = data_size() + room
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    # TensorFlow waits ten seconds for memory: no bisection.
    batch_size._TOLERANCE = 1
    result = find_batch_size(
        model,
        x,
        y,
        min_batch_size=2048,
        max_batch_size=2**14,
        verbose=0,
    )
    told = {
        "batch_sizes": result.batch_sizes.tolist(),
        "out_of_memory": result.out_of_memory,
        "restored": all(map(np.array_equal, state(model), before)),
        "same_function": model.train_function is train_function,
    }
    model.fit(x, y, batch_size=16, verbose=0)
    updates = int(np.array(keras.ops.convert_to_numpy(model.optimizer.iterations)))
    finite = all(np.isfinite(values).all() for values in state(model))
    print(json.dumps({**told, "trained": updates == 8 and bool(finite)}))


if __name__ == "__main__":
    find(int(sys.argv[1]))
