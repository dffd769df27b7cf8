"""One of several JAX processes that train together: a range test, then one cycle.

usage: python process_of_several.py OUT.npz COORDINATOR NUM_PROCESSES PROCESS_ID
"""

import sys

import keras
import numpy as np

import reference
from examples.cifar10 import data, devices
from keras_onecycle import OneCycle, lr_find


def train(process: tuple[int, int] = (0, 1)) -> list[np.ndarray]:
    """Returns the weights, the losses of the range test and the momentum of the cycle."""
    keras.utils.set_random_seed(0)
    model = reference.build(keras.layers.BatchNormalization())
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    x, y = reference.data(96)
    batches = data.ArrayBatches(x, y, 8, seed=3, process=process)
    result = lr_find(model, batches, num_steps=10, max_lr=0.1, stop_factor=None, verbose=0)
    batches = data.ArrayBatches(x, y, 8, seed=3, process=process)
    cycle = OneCycle(0.02)
    model.fit(batches, epochs=2, verbose=0, callbacks=[cycle])
    return [*model.get_weights(), result.loss, cycle.history["momentum"]]


def main(out: str, coordinator: str, count: int, number: int) -> None:
    several = devices.set_up("data_parallel", coordinator, count, number)
    assert several.replicas == count
    np.savez(out, *train(several.process))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
