"""What one gains on scikit-learn's handwritten digits, in two minutes: copy from here.

usage: python examples/quickstart.py [--epochs N] [--seeds N] [--out DIR]

A range test suggests a learning rate, and one cycle of 5 epochs trains with it; nothing is tuned. Beside it,
what people do without: optimizers as they come, for N epochs. How many updates do they need to be as good?
The range test's own updates count.
"""

import argparse
from pathlib import Path

import keras
import matplotlib as mpl
import numpy as np
from keras.optimizers import SGD, Adam
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_onecycle import OneCycle, lr_find

mpl.use("Agg")  # Pictures go to files.
import matplotlib.pyplot as plt

BATCH_SIZE, CYCLE_EPOCHS = 32, 5
OTHERS = {
    "Adam() as it comes": lambda: (Adam(), []),
    "SGD(0.01, momentum=0.9)": lambda: (SGD(0.01, momentum=0.9), []),
    "Adam() with ReduceLROnPlateau": lambda: (
        Adam(),
        [keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=2)],
    ),
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
    layers = [keras.Input((8, 8, 1))]
    for filters in (16, 32):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
        ]
    model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=loss, metrics=["accuracy"])
    return model


def fit(model, epochs, callbacks, train, test):
    """Updates so far, and test accuracy in percent, after each epoch."""
    arguments = {"batch_size": BATCH_SIZE, "validation_data": test, "verbose": 0}
    model.fit(*train, epochs=epochs, callbacks=callbacks, **arguments)
    updates = -(-len(train[0]) // BATCH_SIZE) * np.arange(1, epochs + 1)
    return updates, 100 * np.array(model.history.history["val_accuracy"])


def main():
    """Trains, draws and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--epochs", type=int, default=20, help="of the others")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("quickstart-results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train, test = digits()
    runs = {name: [] for name in ("lr_find, then OneCycle", *OTHERS)}
    for seed in range(options.seeds):
        model = network(seed, SGD(momentum=0.9))
        found = lr_find(model, *train, batch_size=BATCH_SIZE, verbose=0)
        cycle = OneCycle(max_lr=found.suggest())
        updates, accuracy = fit(model, CYCLE_EPOCHS, [cycle], train, test)
        runs["lr_find, then OneCycle"].append((len(found.loss) + updates, accuracy))
        print(f"seed {seed}: max_lr={cycle.max_lr:.3g}", flush=True)
        for name, make in OTHERS.items():
            optimizer, callbacks = make()
            model = network(seed, optimizer)
            runs[name].append(fit(model, options.epochs, callbacks, train, test))
    found.plot().figure.savefig(options.out / "range_test.png", dpi=120)
    cycle.plot()[0].figure.savefig(options.out / "schedule.png", dpi=120)

    plt.style.use("keras_onecycle.onecycle")
    _, ax = plt.subplots(figsize=(7, 4))
    rows = ["| training | updates | test accuracy (%) | updates for one cycle's accuracy |"]
    rows += ["| --- | --- | --- | --- |"]
    cycles = runs["lr_find, then OneCycle"]
    for (name, of_seeds), style in zip(runs.items(), ("o-", "s--", "^:", "d-."), strict=True):
        updates = np.mean([updates for updates, _ in of_seeds], axis=0)
        reached = np.array([accuracy for _, accuracy in of_seeds])
        (line,) = ax.plot(updates, reached.mean(axis=0), style, markersize=4, label=name)
        span = reached.min(axis=0), reached.max(axis=0)
        ax.fill_between(updates, *span, alpha=0.15, color=line.get_color())
        times = []  # the updates that each seed needs, as a multiple of one cycle's
        for (updates, accuracy), (cycle_updates, of_cycle) in zip(of_seeds, cycles, strict=True):
            first = np.append(updates[accuracy >= of_cycle[-1]], np.inf)[0]
            times.append(first / cycle_updates[-1])
        needed = ", ".join(f"{t:.1f}" if np.isfinite(t) else "never" for t in sorted(times))
        end = f"{reached[:, -1].mean():.1f} ± {reached[:, -1].std(ddof=len(reached) > 1):.1f}"
        rows.append(f"| {name} | {of_seeds[0][0][-1]} | {end} | times {needed} |")
    ax.set(xlabel="optimizer updates, range test included", ylabel="test accuracy (%)")
    ax.set_ylim(90, 100)
    ax.legend(loc="lower right")
    ax.figure.savefig(options.out / "accuracy.png", dpi=120)
    head = f"# Quickstart\n\n{options.seeds} seeds, `python examples/quickstart.py`\n\n"
    (options.out / "table.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    print("\n".join(["", *rows, "", f"The pictures are in {options.out}."]))


if __name__ == "__main__":
    main()
