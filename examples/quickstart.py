"""What one gains on scikit-learn's handwritten digits, in two minutes.

usage: python examples/quickstart.py [--epochs N] [--seeds N] [--out DIR]

A range test suggests a learning rate, and one cycle of 5 epochs trains with it. Beside it, optimizers as they
come, for N epochs: how many times the updates of test and cycle does each need to be as accurate?
"""

import argparse
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras.optimizers import SGD, Adam
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_onecycle import OneCycle, lr_find

BATCH_SIZE, CYCLE_EPOCHS = 32, 5
ONE_CYCLE, PLATEAU = "lr_find, then OneCycle", "Adam() with ReduceLROnPlateau"
OTHERS = {
    "Adam() as it comes": Adam,
    "SGD(0.01, momentum=0.9)": lambda: SGD(0.01, momentum=0.9),
    PLATEAU: Adam,
}


def digits():
    """Images of 8 by 8 pixels with their digits: 1,397 to train on, 400 to test on."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).reshape(-1, 8, 8, 1).astype("float32")
    x, test_x, y, test_y = train_test_split(x, y, test_size=400, stratify=y, random_state=0)
    return (x, y), (test_x, test_y)


def network(seed, optimizer):
    """A small convolutional network, compiled, with weights drawn by `seed`."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for filters in (16, 32):
        model.add(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(keras.layers.BatchNormalization(momentum=0.9))  # 0.99 lags in so few updates
        model.add(keras.layers.ReLU())
        model.add(keras.layers.MaxPooling2D())
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=loss, metrics=["accuracy"])
    return model


def fit(model, epochs, callbacks, train, test):
    """Updates so far, and test accuracy in percent, after each epoch."""
    model.fit(*train, BATCH_SIZE, epochs, verbose=0, callbacks=callbacks, validation_data=test)
    updates = -(-len(train[0]) // BATCH_SIZE) * np.arange(1, epochs + 1)
    return updates, 100 * np.array(model.history.history["val_accuracy"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--epochs", type=int, default=14, help="of the others; one cycle has 5")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("quickstart-results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train, test = digits()
    runs = {name: [] for name in (ONE_CYCLE, *OTHERS)}
    for seed in range(options.seeds):
        model = network(seed, SGD(momentum=0.9))
        found = lr_find(model, *train, batch_size=BATCH_SIZE, verbose=0)
        cycle = OneCycle(max_lr=found.suggest())
        updates, accuracy = fit(model, CYCLE_EPOCHS, [cycle], train, test)
        runs[ONE_CYCLE].append((len(found.loss) + updates, accuracy))
        print(f"seed {seed}: max_lr={cycle.max_lr:.3g}", flush=True)
        for name, optimizer in OTHERS.items():
            plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=2)
            model, callbacks = network(seed, optimizer()), [plateau] if name == PLATEAU else []
            runs[name].append(fit(model, options.epochs, callbacks, train, test))
    found.plot().savefig(options.out / "range_test.png", dpi=120)
    cycle.plot().savefig(options.out / "schedule.png", dpi=120)
    plt.style.use("keras_onecycle.onecycle")
    figure, ax = plt.subplots(figsize=(7, 4))
    print("| training | updates | test accuracy (%) | times one cycle's updates |")
    print("| --- | --- | --- | --- |")
    for name, of_seeds in runs.items():
        updates, mean = np.mean(of_seeds, axis=0)
        spread = np.std(of_seeds, axis=0, ddof=len(of_seeds) > 1)[1]
        ax.plot(updates, mean, marker="o", markersize=4, label=name)
        ax.fill_between(updates, mean - spread, mean + spread, alpha=0.15)
        times = []  # the updates that each seed needs, as a multiple of one cycle's
        for (at, reached), (cycle, of_cycle) in zip(of_seeds, runs[ONE_CYCLE], strict=True):
            enough = at[reached >= of_cycle[-1]]
            times.append(f"{enough[0] / cycle[-1]:.1f}" if enough.size else "never")
        end = f"{mean[-1]:.1f} ± {spread[-1]:.1f}"
        print(f"| {name} | {updates[-1]:.0f} | {end} | {', '.join(sorted(times))} |")
    ax.set(xlabel="updates, range test included", ylabel="test accuracy (%)", ylim=(90, 100))
    ax.legend(loc="lower right")
    figure.savefig(options.out / "accuracy.png", dpi=120)
