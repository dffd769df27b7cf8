"""LeNet on MNIST: table 2 of "A disciplined approach to neural network hyper-parameters", arXiv 1803.09820.

usage: python reproduction/mnist_lenet.py list              what there is to train, in order, and what is done
       python reproduction/mnist_lenet.py train [--hours H] trains what is missing, in order
       python reproduction/mnist_lenet.py table             prints the table of what is done

Each training is one file in results/mnist-lenet/, written when it is done: the same command goes on after an
interruption, and begins the training that was interrupted anew.

Caffe's LeNet: convolutions of 20 and 50 filters of 5x5, each with max-pooling by 2, a dense layer of 500 with
ReLU, one of 10; pixels divided by 256; batches of 512; L2 with a gradient of 5e-4 of the weights, biases too.
Accuracy is that on the 10,000 test images after the last update; no epoch is picked.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_onecycle import OneCycle

RESULTS = Path(__file__).resolve().parent.parent / "results" / "mnist-lenet"
SEEDS = range(4)
TUNING_SEED = 100
RATES = (0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class Run:
    """Everything that decides how a training ends.

    Args:
        policy: `"one_cycle"`; `"inv"`, `lr * (1 + 1e-4 * update) ** -0.75`; `"step"`, divided by 10 after
            half and after three quarters; `"cosine"`, to 0 without a warm-up.
        lr: The highest learning rate. One cycle begins at a tenth of it.
        epochs: Epochs of the training.
        up: Epochs of one cycle in which the rate rises, the paper's step size.
        momentum: Highest and lowest momentum, the same for no cycle.
        seed: Seed of the weights and of the order of the images.
        weight_decay: What the gradient of the penalty is, in weights.
        images: Training images.
        batch_size: Images in a batch.
    """

    policy: str
    lr: float
    epochs: int
    seed: int
    up: float = 0.0
    momentum: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 5e-4
    images: int = 60_000
    batch_size: int = 512

    @property
    def name(self) -> str:
        """The name of the file, by what differs from the defaults."""
        parts = [self.policy, f"lr={self.lr:g}", f"epochs={self.epochs}"]
        parts += [f"up={self.up:g}"] if self.policy == "one_cycle" else []
        if self.momentum not in ((0.9, 0.9), (0.95, 0.8)):
            parts.append("momentum={:g}-{:g}".format(*self.momentum))
        for field in ("weight_decay", "images", "batch_size"):
            if getattr(self, field) != getattr(Run, field):
                parts.append(f"{field}={getattr(self, field):g}")
        return "-".join([*parts, f"seed={self.seed}"])


def one_cycle(lr: float, epochs: int, up: float, seed: int, **changes: Any) -> Run:
    """A cycle with the paper's momentum."""
    return Run("one_cycle", lr, epochs, seed, up, **{"momentum": (0.95, 0.8), **changes})


# The rows of the table, with the accuracy that is published: mean and standard deviation in percent.
ROWS: dict[str, tuple[str, float, float]] = {
    "one cycle 0.01-0.1, 12 epochs": ("one_cycle-lr=0.1-epochs=12-up=5", 99.25, 0.03),
    "one cycle 0.01-0.1, 25 epochs": ("one_cycle-lr=0.1-epochs=25-up=12", 99.28, 0.06),
    "one cycle 0.01-0.1, 50 epochs": ("one_cycle-lr=0.1-epochs=50-up=23", 99.27, 0.07),
    "one cycle 0.02-0.2, 85 epochs": ("one_cycle-lr=0.2-epochs=85-up=40", 99.35, 0.03),
    "inv 0.01, 85 epochs": ("inv-lr=0.01-epochs=85", 99.03, 0.04),
    "step 0.01, 85 epochs": ("step-lr=0.01-epochs=85", 99.00, 0.04),
}


def plan() -> Iterator[Run]:
    """All trainings, in the order in which they are wanted; later ones read what earlier ones found."""
    for seed in SEEDS:
        yield one_cycle(0.1, 12, 5, seed)
        yield Run("inv", 0.01, 12, seed)
    for epochs in (12, 25):
        for policy in ("step", "cosine"):
            for rate in RATES:
                yield Run(policy, rate, epochs, TUNING_SEED)
            if (best := best_rate(policy, epochs)) is not None:
                for seed in SEEDS:
                    yield Run(policy, best, epochs, seed)
        if epochs == 12:
            for seed in SEEDS:
                yield one_cycle(0.1, 25, 12, seed)
    for seed in SEEDS:
        yield Run("inv", 0.01, 85, seed)
        yield one_cycle(0.2, 85, 40, seed)
    for seed in SEEDS:
        yield one_cycle(0.1, 50, 23, seed)
        yield Run("step", 0.01, 85, seed)


def best_rate(policy: str, epochs: int) -> float | None:
    """The rate of the grid that ends best with the tuning seed, or None where one is not done."""
    ends = {rate: read(Run(policy, rate, epochs, TUNING_SEED)) for rate in RATES}
    if None in ends.values():
        return None
    return max(ends, key=lambda rate: ends[rate]["test_accuracy"][-1])


def read(run: Run) -> dict[str, Any] | None:
    """The result of a training, or None where it is not done."""
    path = RESULTS / f"{run.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """MNIST in memory: images of shape (28, 28, 1) in [0, 1), and digits."""
    import tensorflow_datasets as tfds

    parts = []
    for split in ("train", "test"):
        whole = tfds.as_numpy(tfds.load("mnist", split=split, batch_size=-1))
        parts.append((whole["image"].astype("float32") / 256, whole["label"].astype("int32")))
    return parts[0], parts[1]


def lenet(weight_decay: float) -> keras.Model:
    """Caffe's LeNet."""
    l2 = keras.regularizers.L2(weight_decay / 2)
    penalty = {"kernel_regularizer": l2, "bias_regularizer": l2}
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(20, 5, **penalty),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(50, 5, **penalty),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(500, "relu", **penalty),
            keras.layers.Dense(10, **penalty),
        ]
    )


def train(run: Run, parts: Any, verbose: int = 0) -> dict[str, Any]:
    """Trains and returns what is kept of it."""
    (x, y), test = parts
    x, y = x[: run.images], y[: run.images]
    keras.utils.set_random_seed(run.seed)
    model = lenet(run.weight_decay)
    updates = -(-run.images // run.batch_size) * run.epochs
    schedules = keras.optimizers.schedules
    rate: Any = run.lr
    callbacks: list[keras.callbacks.Callback] = [keras.callbacks.TerminateOnNaN()]
    if run.policy == "inv":
        rate = Inv(run.lr)
    elif run.policy == "step":
        ends = [updates // 2 - 1, 3 * updates // 4 - 1]
        rate = schedules.PiecewiseConstantDecay(ends, [run.lr, run.lr / 10, run.lr / 100])
    elif run.policy == "cosine":
        rate = schedules.CosineDecay(run.lr, updates)
    else:
        high, low = run.momentum
        cycle = OneCycle(
            run.lr, pct_start=run.up / run.epochs, max_momentum=high, base_momentum=low
        )
        callbacks.append(cycle)
    model.compile(
        keras.optimizers.SGD(rate, momentum=run.momentum[0]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    start = time.perf_counter()
    history = model.fit(
        x,
        y,
        batch_size=run.batch_size,
        epochs=run.epochs,
        validation_data=test,
        validation_batch_size=2_000,
        callbacks=callbacks,
        verbose=verbose,
    ).history
    backend = keras.backend.backend()
    return {
        "run": asdict(run),
        # JSON has no NaN: a training that diverged has a null.
        "loss": [float(f"{v:.5g}") if np.isfinite(v) else None for v in history["loss"]],
        "test_accuracy": [round(value, 4) for value in history["val_accuracy"]],
        "seconds": round(time.perf_counter() - start),
        "environment": f"{backend} {__import__(backend).__version__}, Keras {keras.__version__}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores",
    }


class Inv(keras.optimizers.schedules.LearningRateSchedule):
    """Caffe's `inv` policy with its `gamma` and `power` for LeNet."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr

    def __call__(self, step: Any) -> Any:
        return self.lr * (1 + 1e-4 * keras.ops.cast(step, "float32")) ** -0.75

    def get_config(self) -> dict[str, Any]:
        return {"lr": self.lr}


def write(result: dict[str, Any]) -> None:
    """Writes the file of a training, whole or not at all."""
    path = (
        RESULTS
        / f"{Run(**{**result['run'], 'momentum': tuple(result['run']['momentum'])}).name}.json"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
    partial = path.with_name(path.name + ".partial")
    partial.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    partial.replace(path)


def accuracies(name: str) -> np.ndarray:
    """The last test accuracies, in percent, of the trainings whose name begins so, one a seed."""
    files = (RESULTS / f"{name}-seed={seed}.json" for seed in SEEDS)
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    return np.array([100 * result["test_accuracy"][-1] for result in results])


def table() -> str:
    """The published table beside what is done here."""
    rows = ["| policy | published, % | here, % | seeds |", "| --- | --- | --- | --- |"]

    def row(label: str, name: str, published: str) -> None:
        done = accuracies(name)
        here = f"{done.mean():.2f}" if len(done) else "not trained yet"
        here += f" ± {done.std(ddof=1):.2f}" if len(done) > 1 else ""
        rows.append(f"| {label} | {published} | {here} | {len(done)} |")

    for label, (name, mean, spread) in ROWS.items():
        row(label, name, f"{mean:.2f} ± {spread:.2f}")
    row("inv 0.01, 12 epochs", "inv-lr=0.01-epochs=12", "")
    for epochs in (12, 25):
        for policy in ("step", "cosine"):
            if (best := best_rate(policy, epochs)) is not None:
                label = f"{policy} {best:g} (best of the grid), {epochs} epochs"
                row(label, f"{policy}-lr={best:g}-epochs={epochs}", "")
    return "\n".join(rows)


def main() -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("list", "train", "table"))
    parser.add_argument("--hours", type=float, default=np.inf, help="begin no training after this")
    parser.add_argument("--verbose", type=int, default=0, choices=(0, 1, 2), help="as in fit")
    arguments = parser.parse_args()
    if arguments.command == "table":
        print(table())
    elif arguments.command == "list":
        for run in plan():
            print("done   " if read(run) else "missing", run.name)
    else:
        start, parts = time.monotonic(), data()
        for run in plan():
            if read(run) is None and time.monotonic() - start < 3600 * arguments.hours:
                result = train(run, parts, arguments.verbose)
                write(result)
                print(
                    f"{run.name}: {result['test_accuracy'][-1]:.4f}, {result['seconds']} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
