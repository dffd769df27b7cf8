"""The whole recipe, end to end: batch size, learning rate, weight decay, dropout, momentum, training.

usage: python examples/recipe.py [--dataset digits|cifar10] [--out DIR] [--seeds N] [--epochs N]

Large learning rates regularize, so the rest of the regularization has to be found again with them. Each
step takes what the ones before gave:

1. The smallest batch that is as fast as any.
2. A range test for the learning rate.
3. Range tests under several weight decays, in one picture.
4. A cross-validated search over weight decay and dropout, at the learning rate of one range test.
5. A momentum range test, and a search over how low momentum should go.
6. Trainings with what was found and with the defaults, judged on a test set that nothing was chosen by.

The searches are kept in DIR/search.db: the same command goes on after an interruption.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
import numpy as np

from keras_onecycle import OneCycle, lr_find, momentum_find
from keras_onecycle.search import find_batch_size, grid_search, weight_decay_find

sys.path.append(str(Path(__file__).resolve().parent / "cifar10"))
mpl.use("Agg")  # Pictures go to files.
import matplotlib.pyplot as plt

import data
from resnet import resnet

MOMENTUM = 0.9
DEFAULT_BATCH_SIZE = 32
# An epoch of fewer updates is too short a cycle on so little data, however fast it is.
UPDATES_PER_EPOCH = 16

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """What is to be learnt.

    Args:
        train, test: Images and labels.
        network: Function of weight decay and dropout that returns logits.
        epochs: Epochs of a training.
        weight_decays: What the range tests try.
        dropouts: What the search tries.
    """

    train: Arrays
    test: Arrays
    network: Callable[[float, float], keras.Model]
    epochs: int
    weight_decays: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 0.0)
    dropouts: tuple[float, ...] = (0.0, 0.1, 0.3)

    def build(self, weight_decay: float = 0.0, dropout: float = 0.0) -> keras.Model:
        """Returns the network, compiled."""
        model = self.network(weight_decay, dropout)
        model.compile(
            keras.optimizers.SGD(momentum=MOMENTUM),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model


def digits() -> Task:
    """The 1,797 handwritten digits of scikit-learn, of 8 by 8 pixels."""
    from quickstart import digits as load

    train, test = load()

    def network(weight_decay: float, dropout: float) -> keras.Model:
        l2 = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
        layers: list[Any] = [keras.Input((8, 8, 1))]
        for filters in (16, 32):
            layers += [
                keras.layers.Conv2D(
                    filters, 3, padding="same", use_bias=False, kernel_regularizer=l2
                ),
                keras.layers.BatchNormalization(momentum=0.9),
                keras.layers.ReLU(),
                keras.layers.MaxPooling2D(),
            ]
        layers += [keras.layers.Flatten(), keras.layers.Dropout(dropout)]
        return keras.Sequential([*layers, keras.layers.Dense(10, kernel_regularizer=l2)])

    return Task(train, test, network, epochs=8)


def cifar10(data_dir: Path | None, num_train: int | None) -> Task:
    """CIFAR-10 with a ResNet-8, cropped and flipped."""
    (x, y), test = data.load_arrays("cifar10", data_dir, num_train)

    def network(weight_decay: float, dropout: float) -> keras.Model:
        return keras.Sequential(
            [
                keras.Input((32, 32, 3), dtype="uint8"),
                data.RandomCropFlip(),
                data.standardization("cifar10"),
                resnet(8, weight_decay=weight_decay, dropout=dropout),
            ]
        )

    return Task(
        (x, y), test, network, epochs=6, weight_decays=(1e-2, 1e-3, 1e-4, 0.0), dropouts=(0.0, 0.1)
    )


def train(
    task: Task,
    seed: int,
    *,
    batch_size: int,
    max_lr: float,
    base_momentum: float = 0.85,
    **regularization: float,
) -> float:
    """Trains once and returns the test accuracy in percent."""
    keras.utils.set_random_seed(seed)
    model = task.build(**regularization)
    cycle = OneCycle(max_lr, base_momentum=base_momentum)
    model.fit(*task.train, batch_size, task.epochs, verbose=0, callbacks=[cycle])
    return 100 * model.evaluate(*task.test, batch_size=500, verbose=0, return_dict=True)["accuracy"]


def run(task: Task, seeds: int, folds: int, out: Path) -> None:
    """Goes through the recipe, and writes a table and a page of pictures."""
    x, y = task.train
    rows: list[tuple[str, str]] = []
    figure, axes = plt.subplots(2, 4, figsize=(20, 8), layout="constrained")

    def step(name: str, gave: str) -> None:
        rows.append((name, gave))
        print(f"-- {name}: {gave}", flush=True)

    keras.utils.set_random_seed(0)
    sizes = find_batch_size(
        task.build(),
        x,
        y,
        min_batch_size=DEFAULT_BATCH_SIZE,
        max_batch_size=min(len(x), 1024),
    )
    sizes.plot(axes[0, :2])
    fast, most = sizes.suggest(), max(DEFAULT_BATCH_SIZE, len(x) // UPDATES_PER_EPOCH)
    batch_size = min(fast, most)
    step(
        "batch size",
        f"{sizes.largest} fits, {fast} is as fast as any; taken: {batch_size}, for at least "
        f"{UPDATES_PER_EPOCH} updates an epoch",
    )

    default_lr = _range_test(task, DEFAULT_BATCH_SIZE).suggest()
    result = _range_test(task, batch_size)
    result.plot(axes[0, 2])
    step(
        "range test",
        f"max_lr={result.suggest():.3g} (at batch size {DEFAULT_BATCH_SIZE}: {default_lr:.3g})",
    )

    decays = weight_decay_find(
        task.build, x, y, weight_decays=task.weight_decays, batch_size=batch_size, max_lr=10.0
    )
    decays.plot(axes[0, 3])
    largest = decays.suggest()
    step("weight decay, by range tests", f"at most {largest:g}")

    common: dict[str, Any] = {
        "folds": folds,
        "monitor": "val_loss",
        "epochs": task.epochs,
        "batch_size": batch_size,
        "storage": out / "search.db",
    }
    grid = {
        "weight_decay": sorted({largest, largest / 10, 0.0}),
        "dropout": list(task.dropouts),
    }
    search = grid_search(task.build, grid, x, y, study_name="regularization", **common)
    search.plot(ax=axes[1, 0])
    (out / "regularization.md").write_text(search.table() + "\n", encoding="utf-8")
    best, max_lr = search.best.params, search.best.max_lr
    step(
        "weight decay and dropout, by search",
        f"weight_decay={best['weight_decay']:g}, dropout={best['dropout']:g}, max_lr={max_lr:.3g}",
    )

    keras.utils.set_random_seed(0)
    momenta = momentum_find(
        task.build(**best), x, y, batch_size=batch_size, learning_rate=max_lr / 10
    )
    momenta.plot(axes[1, 1])
    momentum_search = grid_search(
        lambda: task.build(**best),
        {"base_momentum": [0.85, 0.8, 0.9, 0.95]},
        x,
        y,
        study_name="momentum",
        max_lr=max_lr,
        **common,
    )
    momentum_search.plot(ax=axes[1, 2])
    (out / "momentum.md").write_text(momentum_search.table() + "\n", encoding="utf-8")
    base_momentum = momentum_search.best.params["base_momentum"]
    step(
        "momentum",
        f"the range test trains up to {momenta.suggest():.3g} at a tenth of max_lr; by search, 0.95 "
        f"down to {base_momentum:g}",
    )

    settings: dict[str, dict[str, float]] = {
        "default": {"batch_size": DEFAULT_BATCH_SIZE, "max_lr": default_lr},
        "recipe": {
            "batch_size": batch_size,
            "max_lr": max_lr,
            "base_momentum": base_momentum,
            **best,
        },
    }
    accuracies: dict[str, list[float]] = {name: [] for name in settings}
    for seed in range(1000, 1000 + seeds):
        for name, setting in settings.items():
            accuracies[name].append(train(task, seed, **setting))
    for name, setting in settings.items():
        values = np.array(accuracies[name])
        spread = f" ± {values.std(ddof=1):.2f}" if seeds > 1 else ""
        told = ", ".join(f"{key}={value:.3g}" for key, value in setting.items())
        step(
            f"trained: {name} ({told})",
            f"{values.mean():.2f}{spread}% on the test set, {seeds} seeds of {task.epochs} epochs",
        )
    ax = axes[1, 3]
    for seed in zip(*accuracies.values(), strict=True):
        ax.plot(list(accuracies), seed, "o-", color="tab:blue", alpha=0.5)
    ax.set_ylabel("test accuracy (%), a line a seed")
    ax.grid(alpha=0.3)
    figure.savefig(out / "recipe.png", dpi=80)
    plt.close(figure)
    table = "\n".join(
        ["| step | what it gave |", "| --- | --- |", *(f"| {n} | {gave} |" for n, gave in rows)]
    )
    (out / "recipe.md").write_text(table + "\n", encoding="utf-8")
    raw = {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "batch_sizes": dict(
            zip(map(str, sizes.batch_sizes), sizes.throughputs.round(1).tolist(), strict=True)
        ),
        "settings": settings,
        "test_accuracy": accuracies,
    }
    (out / "results.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    print(
        f"\n{table}\n\nWritten: {out}/recipe.md, recipe.png, regularization.md, momentum.md, results.json"
    )


def _range_test(task: Task, batch_size: int) -> Any:
    keras.utils.set_random_seed(0)
    return lr_find(task.build(), *task.train, batch_size=batch_size, min_lr=1e-4)


def main(command_line: list[str] | None = None) -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--dataset", choices=("digits", "cifar10"), default="digits")
    add("--out", type=Path, help="folder of the results (default: recipe-DATASET)")
    add("--seeds", type=int, default=5, help="final trainings of each kind")
    add("--folds", type=int, default=3, help="folds of the searches")
    add("--epochs", type=int, help="epochs of each training")
    add("--data-dir", type=Path, help="where CIFAR-10 is, if not in TFDS_DATA_DIR")
    add("--num-train", type=int, default=5_000, help="training images of CIFAR-10")
    arguments = parser.parse_args(command_line)
    for name in ("seeds", "epochs", "num_train"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1. Received: {value}")
    out = arguments.out or Path(f"recipe-{arguments.dataset}")
    out.mkdir(parents=True, exist_ok=True)
    try:
        task = (
            digits()
            if arguments.dataset == "digits"
            else cifar10(arguments.data_dir, arguments.num_train)
        )
        if arguments.epochs is not None:
            task = replace(task, epochs=arguments.epochs)
        run(task, arguments.seeds, arguments.folds, out)
    except (ValueError, FileNotFoundError, ImportError) as error:
        if os.environ.get("DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
