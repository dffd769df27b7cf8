"""From the range test to a trained network in two minutes, on handwritten digits.

usage: python examples/quickstart.py [--epochs N] [--seeds N] [--grid LR ...] [--out DIR]

1. The range test finds a learning rate.
2. The network is trained with `OneCycle`, momentum cycled too, at that learning rate.
3. The same network is trained for as many epochs with a constant learning rate, with Keras's own
   `CosineDecay`, and with `OneCycle`, each at the learning rate that is best for it on one grid.

The learning rates are chosen on a validation set; what is shown is the accuracy on a test set, that
nothing was chosen by. Three pictures, a table and the raw numbers are written to DIR.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import matplotlib as mpl
import numpy as np

try:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
except ImportError:
    sys.exit("The digits come with scikit-learn: pip install 'keras-onecycle[examples]'")

from keras_onecycle import OneCycle, lr_find

mpl.use("Agg")  # Pictures go to files.
import matplotlib.pyplot as plt

BATCH_SIZE = 32
MOMENTUM = 0.9
GRID = [0.01, 0.03, 0.1, 0.3]
TUNING_SEEDS = [100, 101]

Data = dict[str, tuple[np.ndarray, np.ndarray]]
# What a method is: the optimizer and the callbacks for a learning rate and a number of updates.
Method = Callable[[float, int], tuple[keras.Optimizer, list[keras.callbacks.Callback]]]


def digits() -> Data:
    """Returns the 1,797 digits, of 8 by 8 pixels, in three parts with equal shares of each class."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).reshape(-1, 8, 8, 1).astype("float32")
    x, test_x, y, test_y = train_test_split(x, y, test_size=400, stratify=y, random_state=0)
    x, val_x, y, val_y = train_test_split(x, y, test_size=300, stratify=y, random_state=0)
    return {"train": (x, y), "validation": (val_x, val_y), "test": (test_x, test_y)}


def network(seed: int, optimizer: keras.Optimizer) -> keras.Model:
    """Returns a small convolutional network, compiled, with weights drawn by `seed`."""
    keras.utils.set_random_seed(seed)
    layers: list[keras.layers.Layer] = [keras.Input((8, 8, 1))]
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


def constant(learning_rate: float, updates: int) -> tuple:
    """SGD with momentum at one learning rate."""
    return keras.optimizers.SGD(learning_rate, momentum=MOMENTUM), []


def cosine_decay(learning_rate: float, updates: int) -> tuple:
    """The same with Keras's `CosineDecay`, from the learning rate down to 0."""
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, updates)
    return keras.optimizers.SGD(schedule, momentum=MOMENTUM), []


def one_cycle(learning_rate: float, updates: int) -> tuple:
    """The same with one cycle of the learning rate and of momentum, up to that learning rate."""
    return keras.optimizers.SGD(momentum=MOMENTUM), [OneCycle(max_lr=learning_rate)]


METHODS: dict[str, Method] = {
    "constant": constant,
    "CosineDecay": cosine_decay,
    "OneCycle": one_cycle,
}


def train(
    method: Method, learning_rate: float, seed: int, epochs: int, data: Data, judge: str
) -> tuple[dict[str, list[float]], list[keras.callbacks.Callback]]:
    """Trains once; returns what `fit` logged, judged on `data[judge]`, and the callbacks."""
    x, y = data["train"]
    updates = epochs * -(-len(x) // BATCH_SIZE)
    optimizer, callbacks = method(learning_rate, updates)
    model = network(seed, optimizer)
    history = model.fit(
        x,
        y,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
        validation_data=data[judge],
        validation_batch_size=400,
    )
    return history.history, callbacks


def draw_accuracy(curves: dict[str, list[list[float]]], updates: int, path: Path) -> None:
    """Draws test accuracy against the step, the mean of the seeds and their span."""
    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for label, accuracies in curves.items():
        values = 100 * np.array(accuracies)
        steps = updates / values.shape[1] * np.arange(1, values.shape[1] + 1)
        (line,) = ax.plot(steps, values.mean(axis=0), "o-", markersize=3, label=label)
        ax.fill_between(
            steps, values.min(axis=0), values.max(axis=0), alpha=0.15, color=line.get_color()
        )
    ax.set_xlabel("step (optimizer updates)")
    ax.set_ylabel("test accuracy (%)")
    # The first epochs are far below, and what one looks at is the end.
    ax.set_ylim(bottom=80)
    ax.grid(alpha=0.3)
    ax.legend()
    ax.figure.savefig(path, dpi=120)
    plt.close(ax.figure)


def main() -> None:
    """Runs the comparison and writes what it saw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--epochs", type=int, default=8, help="epochs of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--grid", type=float, nargs="+", default=GRID, help="learning rates")
    parser.add_argument("--out", type=Path, default=Path("quickstart-results"))
    arguments = parser.parse_args()
    if arguments.epochs < 1 or arguments.seeds < 1 or min(arguments.grid) <= 0:
        parser.error("--epochs and --seeds must be at least 1, and --grid above 0")
    out, epochs, seeds = arguments.out, arguments.epochs, range(arguments.seeds)
    out.mkdir(parents=True, exist_ok=True)
    data = digits()
    x, y = data["train"]
    updates = epochs * -(-len(x) // BATCH_SIZE)

    print("1. Range test")
    model = network(0, keras.optimizers.SGD(momentum=MOMENTUM))
    result = lr_find(model, x, y, batch_size=BATCH_SIZE, min_lr=1e-4, max_lr=10.0)
    suggested = result.suggest()
    ax = result.plot()
    ax.figure.savefig(out / "range_test.png", dpi=120)
    plt.close(ax.figure)
    result.save(out / "range_test.json")
    print(f"   suggested: max_lr={suggested:.3g}")

    print(f"2. Trainings of {epochs} epochs ({updates} updates)")
    tunings = len(METHODS) * len(arguments.grid) * len(TUNING_SEEDS)
    runs = tunings + (1 + len(METHODS)) * len(seeds)
    progress = keras.utils.Progbar(runs, unit_name="training")
    best: dict[str, float] = {}
    grids: dict[str, dict[float, float]] = {}
    for name, method in METHODS.items():
        grids[name] = {}
        for rate in arguments.grid:
            losses = []
            for seed in TUNING_SEEDS:
                history, _ = train(method, rate, seed, epochs, data, judge="validation")
                losses.append(history["val_loss"][-1])
                progress.add(1)
            grids[name][rate] = float(np.mean(losses))
        best[name] = min(grids[name], key=grids[name].get)
    settings = {"OneCycle, suggested LR": (METHODS["OneCycle"], suggested)}
    settings |= {f"{name}, best LR of the grid": (METHODS[name], best[name]) for name in METHODS}
    curves: dict[str, list[list[float]]] = {}
    cycle: OneCycle | None = None
    for label, (method, rate) in settings.items():
        curves[label] = []
        for seed in seeds:
            history, callbacks = train(method, rate, seed, epochs, data, judge="test")
            curves[label].append(history["val_accuracy"])
            cycle = cycle or next(iter(callbacks), None)
            progress.add(1)

    axes = cycle.plot()
    axes[0].figure.savefig(out / "schedule.png", dpi=120)
    plt.close(axes[0].figure)
    draw_accuracy(curves, updates, out / "accuracy.png")
    lines = [
        "| training | learning rate | test accuracy (%) | spread (standard deviation) |",
        "| --- | --- | --- | --- |",
    ]
    for label, (_, rate) in settings.items():
        final = 100 * np.array(curves[label])[:, -1]
        spread = f"{final.std(ddof=1):.2f}" if len(final) > 1 else "one seed"
        lines.append(f"| {label} | {rate:.3g} | {final.mean():.2f} | {spread} |")
    table = "\n".join(lines)
    (out / "table.md").write_text(table + "\n", encoding="utf-8")
    raw = {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "epochs": epochs,
        "updates": updates,
        "suggested": suggested,
        "validation_loss_on_the_grid": grids,
        "test_accuracy": curves,
    }
    (out / "results.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    print(f"\n{table}\n\n{len(seeds)} seeds, {epochs} epochs, {updates} updates. Written:")
    for name in ("range_test.png", "schedule.png", "accuracy.png", "table.md", "results.json"):
        print(f"   {out / name}")


if __name__ == "__main__":
    main()
