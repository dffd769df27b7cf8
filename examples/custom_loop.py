"""One cycle in a training loop of your own, on handwritten digits, in seconds.

usage: python -m examples.custom_loop [--epochs N]

Without `fit` there is nothing to tell `OneCycle` how long the training is: `total_steps` says it. While the
cycle is attached, each update of the optimizer sets learning rate and momentum, also in `train_on_batch`.
"""

import argparse

import keras
import numpy as np
from sklearn.datasets import load_digits

from keras_onecycle import OneCycle

BATCH_SIZE, TEST = 32, 400


def train(epochs: int) -> float:
    """Trains with one cycle and returns the test accuracy."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    test, x, y = (x[:TEST], y[:TEST]), x[TEST:], y[TEST:]
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(momentum=0.9), loss=loss, metrics=["accuracy"])
    order = np.random.default_rng(0)
    steps = len(x) // BATCH_SIZE
    cycle = OneCycle(max_lr=0.3, total_steps=epochs * steps)
    with cycle.attach(model):
        for epoch in range(epochs):
            model.reset_metrics()
            batches = order.permutation(len(x))[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)
            for batch in batches:
                logs = model.train_on_batch(x[batch], y[batch], return_dict=True)
            print(f"epoch {epoch + 1}: accuracy {logs['accuracy']:.3f}")
    return model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--epochs", type=int, default=8)
    print(f"test accuracy: {train(parser.parse_args().epochs):.3f}")
