"""Fine-tunes a network with a lower learning rate in its body than in its new head.

usage: python examples/fine_tune.py [--seeds N] [--train-images N]

A small convolutional network learns the digits 0 to 4 of scikit-learn. Its body is then trained on 5 to 9
with a new head, from a few images, under one cycle: with one rate for all, and with a tenth of the head's
rate in the body, each at several highest rates. What is shown is the accuracy on images that no training
has seen.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import product

import keras
import numpy as np
from keras import layers
from keras.optimizers import SGD, MultiOptimizer, OptimizerMap

try:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
except ImportError:
    sys.exit("The digits come with scikit-learn: pip install '.[examples]' in your clone")

from keras_onecycle import OneCycle

KNOWN_LR = 0.1
MAX_LRS = (0.03, 0.1, 0.3)
Arrays = tuple[np.ndarray, np.ndarray]


def digits(classes: Sequence[int], train_images: int, seed: int) -> tuple[Arrays, Arrays]:
    """Returns images of some of the digits, to train on and to test on, with labels from 0."""
    x, y = load_digits(return_X_y=True)
    of_classes = np.isin(y, classes)
    x = (x[of_classes] / 16.0).reshape(-1, 8, 8, 1).astype("float32")
    y = y[of_classes] - min(classes)
    train_x, test_x, train_y, test_y = train_test_split(
        x, y, train_size=train_images, stratify=y, random_state=seed
    )
    return (train_x, train_y), (test_x, test_y)


def body() -> keras.Model:
    """Returns the layers that are kept."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
        ],
        name="body",
    )


def train(
    features: keras.Model, optimizer: keras.Optimizer, max_lr: float, data: Arrays, epochs: int
) -> keras.Model:
    """Returns a network of `features` and a new head, trained with one cycle."""
    model = keras.Sequential([features, layers.Dense(5, name="head")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=loss, metrics=["accuracy"])
    model.fit(*data, batch_size=16, epochs=epochs, verbose=0, callbacks=[OneCycle(max_lr)])
    return model


def layer_wise() -> keras.Optimizer:
    """Returns an optimizer whose body has a tenth of the head's rate, whatever `max_lr` is."""
    parts = {r".*body/.*": SGD(0.01, momentum=0.9)}
    return MultiOptimizer(OptimizerMap(SGD(0.1, momentum=0.9), parts))


def one_rate() -> keras.Optimizer:
    """Returns an optimizer with the same rate everywhere."""
    return SGD(0.1, momentum=0.9)


def main() -> None:
    """Trains, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--train-images", type=int, default=50, help="of the digits 5 to 9")
    arguments = parser.parse_args()
    methods = {"one rate for all": one_rate, "a tenth of it in the body": layer_wise}
    reached: dict[tuple[str, float], list[float]] = {}
    for seed in range(arguments.seeds):
        keras.utils.set_random_seed(seed)
        known = digits(range(5), 600, seed)[0]
        learned = train(body(), one_rate(), KNOWN_LR, known, epochs=10).layers[0].get_weights()
        few, test = digits(range(5, 10), arguments.train_images, seed)
        for name, max_lr in product(methods, MAX_LRS):
            keras.utils.set_random_seed(1000 + seed)
            features = body()
            features.set_weights(learned)
            model = train(features, methods[name](), max_lr, few, epochs=20)
            accuracy = 100 * model.evaluate(*test, verbose=0)[1]
            reached.setdefault((name, max_lr), []).append(accuracy)
    print(f"\nTest accuracy in percent, fine-tuned on {arguments.train_images} images:\n")
    print(f"| max_lr | {' | '.join(map(str, MAX_LRS))} |\n{'| --- ' * (len(MAX_LRS) + 1)}|")
    for name in methods:
        cells = []
        for max_lr in MAX_LRS:
            values = reached[name, max_lr]
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.1f}{spread}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
