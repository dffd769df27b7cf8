"""LeNet on MNIST: table 2 of "A disciplined approach to neural network hyper-parameters", arXiv 1803.09820.

usage: python reproduction/mnist_lenet.py list     what there is to train, in order, and what is done
       python reproduction/mnist_lenet.py train    trains what is missing, in order
       python reproduction/mnist_lenet.py table    prints the tables of what is done
       python reproduction/mnist_lenet.py draw     draws the picture of docs/super-convergence.md

Each training is one file in results/mnist-lenet/, written when it is done: the same command goes on after an
interruption, and begins the training that was interrupted anew.

Caffe's LeNet: convolutions of 20 and 50 filters of 5x5, each with max-pooling by 2, a dense layer of 500 with
ReLU, one of 10; pixels divided by 256; batches of 512; L2 with a gradient of 5e-4 of the weights, biases too.
Accuracy is that on the 10,000 test images after the last update; no epoch is picked.
"""

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_onecycle import OneCycle

RESULTS = Path(__file__).resolve().parent.parent / "results" / "mnist-lenet"
PICTURE = RESULTS.parents[1] / "docs" / "super-convergence" / "mnist-lenet.png"
SEEDS = range(4)
# An accuracy, in percent, below which a training has not learnt.
DIVERGED = 50.0
TUNING_SEED = 100
# The grid that every policy gets.
RATES = (0.01, 0.03, 0.1, 0.3)
POLICIES = ("one_cycle", "step", "cosine")
# Epochs of the cycle's rise, the paper's step size, for epochs of a training.
UP = {12: 5.0, 25: 12.0, 85: 40.0}
MOMENTA = ((0.8, 0.8), (0.85, 0.85), (0.9, 0.9), (0.95, 0.95))
WEIGHT_DECAYS = (3e-3, 1e-3, 1e-4)
SUBSETS = (10_000, 20_000, 30_000, 40_000)
BATCH_SIZES = (1024, 256, 128)


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
        initializer: Keras's name of the weights' distribution; `"lecun_uniform"` is Caffe's `xavier`.
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
    initializer: str = "glorot_uniform"

    @property
    def name(self) -> str:
        """The name of the file, by what differs from the defaults."""
        parts = [self.policy, f"lr={self.lr:g}", f"epochs={self.epochs}"]
        parts += [f"up={self.up:g}"] if self.policy == "one_cycle" else []
        usual = (0.95, 0.8) if self.policy == "one_cycle" else (0.9, 0.9)
        if self.momentum != usual:
            parts.append("momentum={:g}-{:g}".format(*self.momentum))
        for field in ("weight_decay", "images", "batch_size"):
            if getattr(self, field) != getattr(Run, field):
                parts.append(f"{field}={getattr(self, field):g}")
        if self.initializer != Run.initializer:
            parts.append(f"initializer={self.initializer}")
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
UNPUBLISHED = {
    "inv 0.01, 12 epochs": "inv-lr=0.01-epochs=12",
    "one cycle 0.01-0.1, 12 epochs, Caffe's initializer": (
        "one_cycle-lr=0.1-epochs=12-up=5-initializer=lecun_uniform"
    ),
}


def plan() -> Iterator[Run]:
    """All trainings, in the order in which they are wanted; some wait for the rates that others find."""
    for seed in SEEDS:
        yield one_cycle(0.1, 12, UP[12], seed)
        yield one_cycle(0.1, 25, UP[25], seed)
        yield one_cycle(0.1, 50, 23, seed)
        yield Run("inv", 0.01, 12, seed)
    for epochs in (12, 25):
        for rate in RATES:
            for policy in POLICIES:
                yield tuned(policy, rate, epochs, TUNING_SEED)
    for seed in SEEDS:
        yield one_cycle(0.2, 85, UP[85], seed)
        yield Run("inv", 0.01, 85, seed)
        yield Run("step", 0.01, 85, seed)
    for epochs in (12, 25, 85):
        for policy in POLICIES:
            if (best := best_rate(policy, epochs)) is not None:
                for seed in SEEDS:
                    yield tuned(policy, best, epochs, seed)
    for seed in SEEDS:
        for momentum in MOMENTA:
            yield one_cycle(0.1, 12, UP[12], seed, momentum=momentum)
        for weight_decay in WEIGHT_DECAYS:
            yield one_cycle(0.1, 12, UP[12], seed, weight_decay=weight_decay)
        for rate in RATES:
            yield one_cycle(rate, 25, UP[25], seed)
        yield one_cycle(0.1, 12, UP[12], seed, initializer="lecun_uniform")
    for policy in POLICIES:
        if (best := best_rate(policy, 12)) is not None:
            for images in SUBSETS:
                for seed in SEEDS:
                    # As many updates as 12 epochs of all images make.
                    epochs = 12 * 60_000 // images
                    yield replace(tuned(policy, best, epochs, seed), images=images)
    for batch_size in BATCH_SIZES:
        for rate in RATES:
            yield one_cycle(rate, 12, UP[12], TUNING_SEED, batch_size=batch_size)
        if (best := best_rate("one_cycle", 12, batch_size)) is not None:
            for seed in SEEDS:
                yield one_cycle(best, 12, UP[12], seed, batch_size=batch_size)


def tuned(policy: str, rate: float, epochs: int, seed: int) -> Run:
    """A training of a policy with a rate of the grid."""
    if policy == "one_cycle":
        return one_cycle(rate, epochs, UP.get(epochs, 5 * epochs / 12), seed)
    return Run(policy, rate, epochs, seed)


def best_rate(policy: str, epochs: int, batch_size: int = 512) -> float | None:
    """The rate of the grid that ends best with the tuning seed, or None where one is not done.

    For 85 epochs, that of 25.
    """
    ends = {}
    for rate in RATES:
        run = tuned(policy, rate, min(epochs, 25), TUNING_SEED)
        result = read(replace(run, batch_size=batch_size))
        if result is None:
            return None
        ends[rate] = result["test_accuracy"][-1]
    return max(ends, key=ends.get)


def read(run: Run) -> dict[str, Any] | None:
    """The result of a training, or None where it is not done."""
    path = RESULTS / f"{run.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@cache
def data(path: Path | None) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """MNIST in memory: images of shape (28, 28, 1) in [0, 1), and digits.

    From a file as `keras.datasets.mnist` has it, or where no path is given from `tensorflow_datasets`.
    """
    if path is not None:
        with np.load(path) as arrays:
            parts = [(arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in ("train", "test")]
    else:
        import tensorflow_datasets as tfds

        splits = (tfds.load("mnist", split=split, batch_size=-1) for split in ("train", "test"))
        parts = [(whole["image"], whole["label"]) for whole in map(tfds.as_numpy, splits)]
    train, test = (
        (x.reshape(-1, 28, 28, 1).astype("float32") / 256, y.astype("int32")) for x, y in parts
    )
    return train, test


def lenet(weight_decay: float, initializer: str = Run.initializer) -> keras.Model:
    """Caffe's LeNet."""
    l2 = keras.regularizers.L2(weight_decay / 2)
    penalty = {
        "kernel_regularizer": l2,
        "bias_regularizer": l2,
        "kernel_initializer": initializer,
    }
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


def train(run: Run, path: Path | None = None) -> dict[str, Any]:
    """Trains and returns what is kept of it."""
    (x, y), test = data(path)
    x, y = x[: run.images], y[: run.images]
    keras.utils.set_random_seed(run.seed)
    model = lenet(run.weight_decay, run.initializer)
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
        verbose=0,
    ).history
    return {
        "run": asdict(run),
        # JSON has no NaN: a training that diverged has a null.
        "loss": [float(f"{v:.5g}") if np.isfinite(v) else None for v in history["loss"]],
        "test_accuracy": [round(value, 4) for value in history["val_accuracy"]],
        "test_loss": [float(f"{v:.5g}") if np.isfinite(v) else None for v in history["val_loss"]],
        "seconds": round(time.perf_counter() - start),
        "environment": environment(),
    }


def environment() -> str:
    """What a result should be read with."""
    backend = keras.backend.backend()
    module = __import__(backend)
    device = f"{os.cpu_count()} cores"
    if backend == "jax" and module.default_backend() != "cpu":
        device = module.devices()[0].device_kind
    return (
        f"{backend} {module.__version__}, Keras {keras.__version__}, "
        f"Python {platform.python_version()}, {device}"
    )


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
    run = Run(**{**result["run"], "momentum": tuple(result["run"]["momentum"])})
    path = RESULTS / f"{run.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
    partial = path.with_name(path.name + ".partial")
    partial.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    partial.replace(path)


def results(name: str) -> list[dict[str, Any]]:
    """What is done of the trainings whose name begins so, one a seed."""
    files = (RESULTS / f"{name}-seed={seed}.json" for seed in SEEDS)
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]


def environments() -> list[str]:
    """What the results were trained with."""
    files = sorted(RESULTS.glob("*.json"))
    return sorted({json.loads(f.read_text(encoding="utf-8"))["environment"] for f in files})


def accuracies(name: str) -> np.ndarray:
    """Their last test accuracies, in percent."""
    return np.array([100 * result["test_accuracy"][-1] for result in results(name)])


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation of those that did not diverge, or the mean of one; how many did."""
    if not len(values):
        return "-"
    ends = values[values >= DIVERGED]
    if not len(ends):
        return "diverged"
    told = f"{ends.mean():.2f}" + (f" ± {ends.std(ddof=1):.2f}" if len(ends) > 1 else "")
    lost = len(values) - len(ends)
    return told + (f" ({lost} of {len(values)} diverged)" if lost else "")


def table() -> str:
    """The published table beside what is done here, and then with equal tuning."""
    rows = ["| policy | published, % | here, % | seeds |", "| --- | --- | --- | --- |"]
    for label, (name, mean, deviation) in ROWS.items():
        done = accuracies(name)
        rows.append(f"| {label} | {mean:.2f} ± {deviation:.2f} | {spread(done)} | {len(done)} |")
    for label, name in UNPUBLISHED.items():
        done = accuracies(name)
        rows.append(f"| {label} | | {spread(done)} | {len(done)} |")
    return "\n".join(rows)


def tuned_table() -> str:
    """Each policy at the best rate of one grid, at the same number of epochs."""
    rows = [
        f"| policy | epochs | {' | '.join(f'{rate:g}' for rate in RATES)} | best, % | seeds |",
        "| --- " * (len(RATES) + 4) + "|",
    ]
    for epochs in (12, 25):
        for policy in POLICIES:
            cells = []
            for rate in RATES:
                result = read(tuned(policy, rate, epochs, TUNING_SEED))
                reached = 100 * result["test_accuracy"][-1] if result else np.nan
                cells.append(
                    "diverged" if reached < DIVERGED else f"{reached:.2f}" if result else ""
                )
            best = best_rate(policy, epochs)
            name = tuned(policy, best or RATES[0], epochs, 0).name.removesuffix("-seed=0")
            done = accuracies(name)
            cells += [spread(done), str(len(done))]
            rows.append(f"| {policy.replace('_', ' ')} | {epochs} | {' | '.join(cells)} |")
    return "\n".join(rows)


def momentum_table() -> str:
    """Cyclical momentum beside constant ones, with the paper's rate and 12 epochs."""
    rows = ["| momentum | test accuracy, % | seeds |", "| --- | --- | --- |"]
    runs = {"0.95 to 0.8": one_cycle(0.1, 12, UP[12], 0)}
    runs |= {
        f"{high:g}": one_cycle(0.1, 12, UP[12], 0, momentum=(high, low)) for high, low in MOMENTA
    }
    for label, run in runs.items():
        done = accuracies(run.name.removesuffix("-seed=0"))
        rows.append(f"| {label} | {spread(done)} | {len(done)} |")
    return "\n".join(rows)


def draw(path: Path) -> None:
    """Draws accuracy against the epochs of a training, and how three trainings get there."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.style.use("keras_onecycle.onecycle")
    figure, (ends, courses) = plt.subplots(1, 2, figsize=(10.5, 4))
    styles = {
        "one cycle": ("C0", "o", "-"),
        "inv": ("C1", "s", "--"),
        "step": ("C2", "^", ":"),
    }
    for policy, (color, marker, line) in styles.items():
        of_policy = {n: row for label, (n, *row) in ROWS.items() if label.startswith(policy)}
        names = [*of_policy, *(["inv-lr=0.01-epochs=12"] if policy == "inv" else [])]
        epochs = {name: int(name.split("epochs=")[1].split("-")[0]) for name in names}
        names.sort(key=epochs.get)
        done = [accuracies(name) for name in names]
        ends.errorbar(
            [epochs[name] for name in names],
            [values.mean() for values in done],
            [values.std(ddof=1) for values in done],
            color=color,
            marker=marker,
            linestyle=line,
            capsize=3,
            label=policy,
        )
        for name, (mean, deviation) in of_policy.items():
            ends.errorbar(
                1.06 * epochs[name],
                mean,
                deviation,
                color=color,
                marker=marker,
                mfc="white",
                capsize=2,
            )
    ends.errorbar([], [], [], color="gray", marker="o", mfc="white", label="published")
    ends.set_xscale("log")
    ends.set_xticks([12, 25, 50, 85], ["12", "25", "50", "85"])
    ends.minorticks_off()
    ends.set_xlabel("epochs of the training")
    ends.set_ylabel("test accuracy at its end (%)")
    for label, name in (
        ("one cycle", "one_cycle-lr=0.1-epochs=12-up=5"),
        ("inv", "inv-lr=0.01-epochs=85"),
        ("step", "step-lr=0.01-epochs=85"),
    ):
        color, _, line = styles[label]
        course = np.array([100 * np.array(result["test_accuracy"]) for result in results(name)])
        epoch = 1 + np.arange(course.shape[1])
        courses.plot(
            epoch, course.mean(axis=0), line, color=color, label=f"{label}, {epoch[-1]} epochs"
        )
        courses.fill_between(epoch, course.min(axis=0), course.max(axis=0), color=color, alpha=0.15)
    courses.set_ylim(97.5, 99.4)
    courses.set_xlabel("epoch")
    courses.set_ylabel("test accuracy (%), mean and span of the seeds")
    for ax in (ends, courses):
        ax.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def train_all(processes: int, path: Path | None, hours: float) -> None:
    """Trains what is missing, so many at a time."""
    end = time.monotonic() + 3600 * hours
    # Not forked: neither backend survives that.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        while missing := [run for run in dict.fromkeys(plan()) if read(run) is None]:
            todo = iter(missing)
            busy = {pool.submit(train, run, path) for run in islice(todo, processes)}
            while busy:
                done, busy = wait(busy, return_when=FIRST_COMPLETED)
                for future in done:
                    write(future.result())
                    print(future.result()["run"], future.result()["test_accuracy"][-1], flush=True)
                    if time.monotonic() < end:
                        busy |= {pool.submit(train, run, path) for run in islice(todo, 1)}
            if time.monotonic() > end:
                break


def main() -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("list", "train", "table", "draw"))
    parser.add_argument("--data", type=Path, help="mnist.npz of keras.datasets, not TFDS_DATA_DIR")
    parser.add_argument("--hours", type=float, default=np.inf, help="begin no training after this")
    parser.add_argument("--processes", type=int, default=1, help="so many trainings at a time")
    arguments = parser.parse_args()
    if arguments.command == "table":
        print(f"{table()}\n\n{tuned_table()}\n\n{momentum_table()}")
    elif arguments.command == "draw":
        draw(PICTURE)
    elif arguments.command == "list":
        for run in dict.fromkeys(plan()):
            print("done   " if read(run) else "missing", run.name)
    else:
        train_all(arguments.processes, arguments.data, arguments.hours)


if __name__ == "__main__":
    main()
