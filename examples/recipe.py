"""The whole recipe, end to end: batch size, learning rate, weight decay, dropout, momentum, training.

usage: python -m examples.recipe [--dataset digits|breast_cancer|wine|cifar10] [--out DIR] [--seeds N]
                                 [--epochs N]

Large learning rates regularize, so the rest of the regularization has to be found again with them. Each
step begins at the default, and leaves it only for what is better by more than the spread:

1. Batch size: of those that are as good as any after as many epochs, the fastest.
2. A range test for the learning rate.
3. Range tests under several weight decays: what is the most?
4. A cross-validated search over weight decay and learning rate, which go together.
5. Another over dropout and over how low momentum goes.
6. The found setting beside the default, on new folds with new seeds: which does the recipe keep?
7. Trainings of both on all of the data, judged on a test set that no step has seen.

Steps 6 and 7 make as many updates with the one as with the other. The searches are kept in DIR/search.db:
the same command goes on after an interruption.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
import numpy as np

from keras_onecycle import OneCycle, lr_find, weight_decay_find
from keras_onecycle.search import SearchResult, find_batch_size, grid_search

mpl.use("Agg")  # Pictures go to files.
import matplotlib.pyplot as plt

from examples.cifar10 import data
from examples.cifar10.resnet import resnet

MOMENTUM = 0.9
BATCH_SIZE = 32
# Of the last two steps, so far from those of the searches that no training is seen twice.
JUDGING_SEED, TESTING_SEED = 1000, 2000

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """What is to be learnt.

    Args:
        train, test: Inputs and classes.
        network: Function of weight decay and dropout that returns logits.
        epochs: Epochs of a training.
        batch_sizes: What the first step tries beside the default.
        weight_decays: What the range tests try.
        dropouts: What the search tries.
    """

    train: Arrays
    test: Arrays
    network: Callable[[float, float], keras.Model]
    epochs: int
    batch_sizes: tuple[int, ...] = (64, 128)
    weight_decays: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 0.0)
    dropouts: tuple[float, ...] = (0.0, 0.1, 0.3)

    def build(self, weight_decay: float = 0.0, dropout: float = 0.0) -> keras.Model:
        """Returns the network, compiled."""
        model = self.network(weight_decay, dropout)
        model.compile(
            keras.optimizers.SGD(momentum=MOMENTUM),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            # The loss has the penalty of weight decay in it: the cross-entropy has not.
            metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(from_logits=True)],
        )
        return model


def l2(weight_decay: float) -> keras.Regularizer | None:
    """L2 whose gradient is `weight_decay * w`."""
    return keras.regularizers.L2(weight_decay / 2) if weight_decay else None


def digits() -> Task:
    """The 1,797 handwritten digits of scikit-learn, of 8 by 8 pixels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).reshape(-1, 8, 8, 1).astype("float32")
    x, test_x, y, test_y = train_test_split(x, y, test_size=400, stratify=y, random_state=0)

    def network(weight_decay: float, dropout: float) -> keras.Model:
        layers: list[Any] = [keras.Input((8, 8, 1))]
        for filters in (16, 32):
            layers += [
                keras.layers.Conv2D(
                    filters, 3, padding="same", use_bias=False, kernel_regularizer=l2(weight_decay)
                ),
                keras.layers.BatchNormalization(momentum=0.9),
                keras.layers.ReLU(),
                keras.layers.MaxPooling2D(),
            ]
        layers += [keras.layers.Flatten(), keras.layers.Dropout(dropout)]
        return keras.Sequential(
            [*layers, keras.layers.Dense(10, kernel_regularizer=l2(weight_decay))]
        )

    return Task((x, y), (test_x, test_y), network, epochs=8)


def tabular(name: str, epochs: int) -> Task:
    """One of scikit-learn's tables of measurements, standardised, with two hidden layers."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x, y, test_size=0.4, stratify=y, random_state=0)
    mean, std = x.mean(axis=0), x.std(axis=0)
    x, test_x = (((part - mean) / std).astype("float32") for part in (x, test_x))

    def network(weight_decay: float, dropout: float) -> keras.Model:
        layers: list[Any] = [keras.Input(x.shape[1:])]
        for _ in range(2):
            layers += [
                keras.layers.Dense(64, "relu", kernel_regularizer=l2(weight_decay)),
                keras.layers.Dropout(dropout),
            ]
        classes = int(y.max()) + 1
        return keras.Sequential(
            [*layers, keras.layers.Dense(classes, kernel_regularizer=l2(weight_decay))]
        )

    return Task((x, y), (test_x, test_y), network, epochs, batch_sizes=(16, 64))


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


TASKS: dict[str, Callable[[argparse.Namespace], Task]] = {
    "digits": lambda arguments: digits(),
    "breast_cancer": lambda arguments: tabular("breast_cancer", epochs=10),
    "wine": lambda arguments: tabular("wine", epochs=20),
    "cifar10": lambda arguments: cifar10(arguments.data_dir, arguments.num_train),
}


def train(task: Task, seed: int, setting: dict[str, Any]) -> dict[str, float]:
    """Trains once on all of the data and returns the metrics on the test set."""
    setting = dict(setting)
    keras.utils.set_random_seed(seed)
    model = task.build(setting.pop("weight_decay"), setting.pop("dropout"))
    batch_size, epochs = setting.pop("batch_size"), setting.pop("epochs")
    cycle = OneCycle(**setting)
    model.fit(*task.train, batch_size, epochs, verbose=0, callbacks=[cycle])
    return model.evaluate(*task.test, batch_size=500, verbose=0, return_dict=True)


def run(command: str, task: Task, seeds: int, folds: int, out: Path) -> None:
    """Goes through the recipe, and writes a table and a page of pictures."""
    x, y = task.train
    rows: list[tuple[str, str]] = []
    plt.style.use("keras_onecycle.onecycle")
    figure, axes = plt.subplots(2, 4, figsize=(20, 8))
    begin = time.perf_counter()

    def step(name: str, gave: str) -> None:
        rows.append((name, gave))
        print(f"-- {name}: {gave}", flush=True)

    def search(name: str, grid: dict[str, Any], **fixed: Any) -> SearchResult:
        storage = f"sqlite:///{out / 'search.db'}"
        arguments = {"cv": folds, "epochs": task.epochs, "storage": storage, **fixed}
        # Timings differ from run to run, and what follows from them is another search then.
        study = f"{name} {grid} {fixed}"
        result = grid_search(task.build, grid, x, y, study_name=study, **arguments)
        (out / f"{name}.md").write_text(result.table() + "\n", encoding="utf-8")
        return result

    def suggested(batch_size: int, ax: Any = None) -> float:
        keras.utils.set_random_seed(0)
        result = lr_find(task.build(), x, y, batch_size=batch_size, min_lr=1e-4)
        if ax is not None:
            result.plot(ax)
        return result.suggest()

    sizes = [BATCH_SIZE, *task.batch_sizes]
    speeds = find_batch_size(
        task.build(), x, y, min_batch_size=min(sizes), max_batch_size=max(sizes)
    )
    for ax, label, values in (
        (axes[0, 0], "throughput (samples/s)", speeds.throughputs),
        (axes[0, 1], "time of a step (s)", speeds.step_times),
    ):
        ax.plot(speeds.batch_sizes, values, "o-")
        ax.set(xlabel="batch size (samples)", ylabel=label)
    as_good = search("batch_size", {"batch_size": sizes}, max_lr="each").ties
    speed = dict(zip(speeds.batch_sizes, speeds.throughputs, strict=True))
    batch_size = max((tie.params["batch_size"] for tie in as_good), key=speed.__getitem__)
    told = ", ".join(str(size) for size in sorted(tie.params["batch_size"] for tie in as_good))
    step("batch size", f"as good as any: {told}; the fastest of them: {batch_size}")

    default = {
        "batch_size": BATCH_SIZE,
        "epochs": task.epochs,
        "max_lr": suggested(BATCH_SIZE),
        "base_momentum": 0.85,
        "weight_decay": 0.0,
        "dropout": 0.0,
    }
    max_lr = suggested(batch_size, axes[0, 2])
    step("range test", f"max_lr={max_lr:.3g} (default: {default['max_lr']:.3g})")

    decays = weight_decay_find(
        task.build, x, y, weight_decays=task.weight_decays, batch_size=batch_size, max_lr=10.0
    )
    decays.plot(axes[0, 3])
    largest = decays.suggest()
    step("weight decay, by range tests", f"at most {largest:g}")
    # A range test is noisy: the least of those that were tried is searched in any case.
    largest = max(largest, min(value for value in task.weight_decays if value))

    found = search(
        "weight_decay",
        {
            "weight_decay": list(dict.fromkeys([0.0, largest / 10, largest])),
            "max_lr": [max_lr, max_lr / 3, 3 * max_lr],
        },
        batch_size=batch_size,
    )
    found.plot(axes[1, 0])
    weight_decay, max_lr = found.best.params["weight_decay"], found.best.params["max_lr"]
    step(
        "weight decay and learning rate, by search",
        f"weight_decay={weight_decay:g}, max_lr={max_lr:.3g}; {len(found.ties)} of "
        f"{len(found.settings)} settings tie",
    )

    found = search(
        "dropout",
        {
            "dropout": list(task.dropouts),
            "base_momentum": [0.85, 0.95],
            "weight_decay": [weight_decay],
        },
        batch_size=batch_size,
        max_lr=max_lr,
    )
    found.plot(axes[1, 1])
    step(
        "dropout and momentum, by search",
        f"dropout={found.best.params['dropout']:g}, "
        f"base_momentum={found.best.params['base_momentum']:g}; {len(found.ties)} of "
        f"{len(found.settings)} settings tie",
    )

    recipes = {
        **found.best.params,
        "batch_size": batch_size,
        "epochs": round(task.epochs * batch_size / BATCH_SIZE),
        "max_lr": max_lr,
    }
    settings = {"default": default, "found": recipes}
    judged = SearchResult(
        [
            search(
                f"judged_{name}",
                {key: [value] for key, value in setting.items()},
                seed=JUDGING_SEED,
                cv=5,
            ).settings[0]
            for name, setting in settings.items()
        ],
        "val_loss",
        "minimize",
    )
    (out / "judged.md").write_text(judged.table() + "\n", encoding="utf-8")
    kept = list(settings)[judged.settings.index(judged.best)]
    losses = [f"{setting.mean:.3g} ± {setting.std:.2g}" for setting in judged.settings]
    why = (
        "better by more than the spread"
        if kept == "found"
        else "what was found is not better by more than the spread"
    )
    step("kept", f"{kept}: {why} (validation loss {losses[0]} by default, {losses[1]} as found)")
    took = time.perf_counter() - begin

    ends: dict[str, list[dict[str, float]]] = {name: [] for name in settings}
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    for seed in range(TESTING_SEED, TESTING_SEED + seeds):
        for name, setting in settings.items():
            start = time.perf_counter()
            ends[name].append(train(task, seed, setting))
            seconds[name].append(time.perf_counter() - start)
    for name, setting in settings.items():
        told = ", ".join(f"{key}={value:.3g}" for key, value in setting.items())
        accuracy = _spread([100 * end["accuracy"] for end in ends[name]])
        loss = _spread([end["sparse_categorical_crossentropy"] for end in ends[name]], ".3f")
        step(
            f"trained: {name}" + (" (kept)" if name == kept else ""),
            f"{accuracy}% on the test set, cross-entropy {loss}, {seeds} seeds ({told})",
        )
    units = took / np.median(seconds["default"])
    step("cost of the steps before", f"{units:.0f} trainings of the default")

    pairs = {
        "validation loss, a line a fold": [setting.values for setting in judged.settings],
        "test accuracy (%), a line a seed": [
            [100 * end["accuracy"] for end in of_setting] for of_setting in ends.values()
        ],
    }
    for ax, (label, values) in zip(axes[1, 2:], pairs.items(), strict=True):
        ax.plot(list(settings), values, "o-", color="C0", alpha=0.5)
        ax.set_ylabel(label)
    figure.savefig(out / "recipe.png", dpi=80)
    plt.close(figure)
    table = "\n".join(
        ["| step | what it gave |", "| --- | --- |", *(f"| {n} | {gave} |" for n, gave in rows)]
    )
    head = f"# The recipe\n\n`{command}` went through these steps:\n\n"
    (out / "recipe.md").write_text(f"{head}{table}\n", encoding="utf-8")
    raw = {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "settings": settings,
        "kept": kept,
        "judged": {name: s.values for name, s in zip(settings, judged.settings, strict=True)},
        "test": ends,
        "trainings_it_took": round(units),
    }
    (out / "results.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    print(f"\n{table}\n\nWritten to {out}.")


def _spread(values: Sequence[float], form: str = ".2f") -> str:
    deviation = f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{deviation}"


def main(command_line: list[str] | None = None) -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--dataset", choices=TASKS, default="digits")
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
        task = TASKS[arguments.dataset](arguments)
        if arguments.epochs is not None:
            task = replace(task, epochs=arguments.epochs)
        given = sys.argv[1:] if command_line is None else command_line
        command = shlex.join(["python3", "dev.py", "recipe", *given])
        run(command, task, arguments.seeds, arguments.folds, out)
    except (ValueError, FileNotFoundError, ImportError) as error:
        if os.environ.get("DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
