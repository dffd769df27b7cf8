"""How many images a training needs to be accurate: one cycle and what Keras users do otherwise.

usage: python -m evidence.benchmarks.time_to_accuracy
           [--tasks NAME ...] [--seeds N] [--save] [--resume] [--small]

A task is a set, a network and an optimizer. Its target is 99% of the best mean accuracy that any method
has at the end of its longest trainings. A method's time is the images until its test accuracy first is at
the target:

- A method that has no end (a constant rate, `ReduceLROnPlateau`) trains for 24 epochs, and each counts as
  an end.
- A schedule that is planned to its end (one cycle, `CosineDecay`) trains with each of several lengths up to
  12 epochs, and the shortest that gets there counts. The images that `lr_find` took count too.

Both are the least that a method could need, known only afterwards. As they come, `OneCycle` takes the rate
that `lr_find` suggests, or its curve alone, and the others Keras's defaults; tuned, each takes the best rate
of one grid for all, by the accuracy on other images (among equals: the lowest loss), after 5 epochs with a
seed that is not reported. A ratio is a method's time over that of `OneCycle`, paired by the seed.

CIFAR-10 and MNIST come from `tensorflow_datasets`: name its folder in TFDS_DATA_DIR. With `--save --resume`,
the same command goes on after a kill.
"""

import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn import datasets

from evidence.benchmarks.measuring import saving
from evidence.benchmarks.measuring.store import Store, parse
from evidence.benchmarks.measuring.tasks import (
    Network,
    Split,
    cifar,
    convolutional,
    dense,
    diamonds,
    mnist,
    scikit,
)
from evidence.pages import table
from evidence.reproduction.mnist_lenet import lenet
from keras_onecycle import OneCycle, lr_find

# In epochs, of trainings that are planned to their end, of others, and of those that tune.
LENGTHS = (1, 2, 3, 5, 8, 12)
NO_END = 24
TUNING_LENGTH = 5
TUNING_SEED = 100
PART_OF_BEST = 0.99


# Of each set: how it is loaded, its network, its classes, and its batch size.
SETS: dict[str, tuple[Callable[[int], Split], Network, int, int]] = {
    "digits, dense": (lambda seed: scikit(datasets.load_digits, seed), dense(64), 10, 32),
    "breast cancer, dense": (
        lambda seed: scikit(datasets.load_breast_cancer, seed),
        dense(32, 32),
        2,
        16,
    ),
    "CIFAR-10 (2,000), small CNN": (lambda seed: cifar(), convolutional, 10, 32),
    "diamonds (10,000), dense": (diamonds, dense(64, 64), 5, 128),
    "MNIST (2,000), LeNet": (lambda seed: mnist(), lambda x, _: lenet.lenet(5e-4), 10, 32),
}
OPTIMIZERS: dict[str, Callable[[Any], keras.Optimizer]] = {
    "SGD": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "AdamW": keras.optimizers.AdamW,
}
# What Keras takes where no rate is given, that of the example in the documentation of `CosineDecay`, and
# the grid.
RATES = {"SGD": 0.01, "AdamW": 0.001}
COSINE = {"SGD": 0.1, "AdamW": 0.001}
GRIDS = {"SGD": (0.01, 0.03, 0.1, 0.3, 1.0), "AdamW": (0.001, 0.003, 0.01, 0.03)}
TASKS = {
    f"{name}, {optimizer}": (name, optimizer)
    for name in SETS
    for optimizer in OPTIMIZERS
    # An hour of a core.
    if optimizer == "SGD" or name != "MNIST (2,000), LeNet"
}
CURVE = "OneCycle, curve alone"
PLANNED = {"OneCycle", CURVE, "OneCycle as fastai", "CosineDecay"}
METHODS = (
    "OneCycle",
    CURVE,
    "OneCycle as fastai",
    "CosineDecay",
    "constant rate",
    "ReduceLROnPlateau",
    "Adam()",
)
TUNED = ("OneCycle", "CosineDecay", "constant rate", "ReduceLROnPlateau")
ONE_CYCLE = METHODS[0]


def parts(load: Callable[[int], Split], seed: int) -> tuple[Any, Any, Any]:
    """Returns images and labels to train on, to tune on and to test on."""
    train, (x, y) = load(seed)
    return train, (x[::2], y[::2]), (x[1::2], y[1::2])


def started(task: str, optimizer: Any, seed: int) -> keras.Model:
    """Returns the network with weights drawn by the seed; the order of the batches starts from it too."""
    # Otherwise hundreds of models in one process would take gigabytes.
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    load, network, classes, _ = SETS[TASKS[task][0]]
    model = network(load(seed)[0][0], classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=loss, metrics=["accuracy"])
    return model


def suggest(task: str, method: str, seed: int) -> dict[str, float]:
    """Returns what `lr_find` suggests, or its curve as fastai reads it, and the images that it took."""
    name, optimizer = TASKS[task]
    load, _, _, batch_size = SETS[name]
    model = started(task, OPTIMIZERS[optimizer](RATES[optimizer]), seed)
    batches = []
    counter = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batches.append(batch)
    )
    how = {} if method == ONE_CYCLE else {"cycle_steps": 0}
    found = lr_find(
        model, *load(seed)[0], batch_size=batch_size, verbose=0, callbacks=[counter], **how
    )
    # Without cycles, "auto" is the curve alone.
    rate = found.suggest("valley" if method == "OneCycle as fastai" else "auto")
    return {"rate": float(f"{rate:.4g}"), "images": len(batches) * batch_size}


def train(
    task: str, method: str, rate: float, epochs: int, seed: int, *, tuning: bool = False
) -> list[float]:
    """Returns the test accuracy after each epoch; of a training that tunes, last accuracy and loss."""
    name, optimizer = TASKS[task]
    load, _, _, batch_size = SETS[name]
    (x, y), to_tune, to_test = parts(load, seed)
    callbacks: list[keras.callbacks.Callback] = []
    if method == "OneCycle":
        callbacks = [OneCycle(rate)]
    elif method == "OneCycle as fastai":
        # The defaults of its `fit_one_cycle`, whose last divisor is of `max_lr`.
        callbacks = [
            OneCycle(
                rate,
                pct_start=0.25,
                anneal_strategy="cos",
                div_factor=25.0,
                final_div_factor=1e5 / 25.0,
                three_phase=False,
            )
        ]
    elif method == "ReduceLROnPlateau":
        # As in its documentation, but with the loss of the training: nothing is held out here.
        callbacks = [keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.2, patience=5)]
    schedule: Any = rate
    if method == "CosineDecay":
        updates = epochs * math.ceil(len(x) / batch_size)
        schedule = keras.optimizers.schedules.CosineDecay(rate, updates)
    made = keras.optimizers.Adam() if method == "Adam()" else OPTIMIZERS[optimizer](schedule)
    model = started(task, made, seed)
    history = model.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        validation_data=to_tune if tuning else to_test,
        validation_batch_size=1000,
        callbacks=callbacks,
        verbose=0,
    ).history
    if tuning:
        return [round(float(history[f"val_{name}"][-1]), 4) for name in ("accuracy", "loss")]
    return [round(value, 4) for value in history["val_accuracy"]]


class Measured:
    """One task: its target, and the time of every method, as it comes and tuned.

    Args:
        store: Where trainings are filed.
        task: String, of `TASKS`.
        seeds: Integer, at least 1.
        lengths: Increasing lengths, in epochs, of trainings that are planned to their end.
        no_end: Length of the others.
        grid: The learning rates that each tuned method gets.
    """

    def __init__(
        self,
        store: Store,
        task: str,
        seeds: int,
        lengths: tuple[int, ...],
        no_end: int,
        grid: tuple[float, ...],
    ) -> None:
        self.store, self.task, self.seeds = store, task, range(seeds)
        self.lengths, self.no_end, self.grid = lengths, no_end, grid
        name, self.optimizer = TASKS[task]
        self.images = store.get("images", task, lambda: len(SETS[name][0](0)[0][0]))
        self.best_rates = {method: self._best_rate(method) for method in TUNED}
        kinds = [(method, False) for method in METHODS] + [(method, True) for method in TUNED]
        # After the longest training, each seed.
        self.ends = {
            kind: [
                self._accuracies(*kind, seed, self._lengths(kind[0])[-1])[-1] for seed in self.seeds
            ]
            for kind in kinds
        }
        self.best = float(max(np.mean(end) for end in self.ends.values()))
        self.times = {kind: [self._time(*kind, seed) for seed in self.seeds] for kind in kinds}

    def _lengths(self, method: str) -> tuple[int, ...]:
        return self.lengths if method in PLANNED else (self.no_end,)

    def _trained(self, method: str, rate: float, epochs: int, seed: int) -> list[float]:
        name = f"{self.task}/{method}/{rate:g}/{epochs} epochs/{seed}"
        return self.store.get("trainings", name, train, self.task, method, rate, epochs, seed)

    def _suggested(self, method: str, seed: int) -> dict[str, float]:
        name = f"{self.task}/{method}/{seed}"
        return self.store.get("range_tests", name, suggest, self.task, method, seed)

    def _best_rate(self, method: str) -> float:
        def reached(rate: float) -> tuple[float, float]:
            name = f"{self.task}/{method}/{rate:g}"
            arguments = self.task, method, rate, min(TUNING_LENGTH, self.no_end), TUNING_SEED
            tuned = self.store.get("tunings", name, lambda: train(*arguments, tuning=True))
            accuracy, loss = tuned
            return accuracy, -math.inf if math.isnan(loss) else -loss

        return max(self.grid, key=reached)

    def _accuracies(self, method: str, tuned: bool, seed: int, epochs: int) -> list[float]:
        if tuned:
            rate = self.best_rates[method]
        elif method.startswith("OneCycle"):
            rate = self._suggested(method, seed)["rate"]
        else:
            rate = (COSINE if method == "CosineDecay" else RATES)[self.optimizer]
        return self._trained(ONE_CYCLE if method == CURVE else method, rate, epochs, seed)

    def _time(self, method: str, tuned: bool, seed: int) -> float:
        """Images until the target is reached, infinite where it is not."""
        found = method.startswith("OneCycle") and not tuned
        before = self._suggested(method, seed)["images"] if found else 0
        for epochs in self._lengths(method):
            accuracies = np.array(self._accuracies(method, tuned, seed, epochs))
            there = np.flatnonzero(accuracies >= PART_OF_BEST * self.best)
            if len(there):
                return before + float(self.images * (there[0] + 1))
        return math.inf

    def ratios(self, method: str, tuned: bool) -> list[float]:
        """Returns the time over that of `OneCycle`, of each seed; NaN where neither gets there."""
        return [
            math.nan if math.isinf(own) and math.isinf(cycle) else own / cycle
            for own, cycle in zip(
                self.times[method, tuned], self.times[ONE_CYCLE, tuned], strict=True
            )
        ]


def number(value: float, form: str = ".1f") -> str:
    """Returns a ratio or a time as a table has it."""
    if math.isnan(value):
        return "-"
    return "never" if math.isinf(value) else f"{value:{form}}" if value else "alone"


def median(values: Any) -> Any:
    """Returns the lower median along the last axis, of what is no NaN; infinite values leave it as it is."""
    ordered = np.sort(values, axis=-1)  # NaN at the end.
    middle = np.maximum(np.sum(~np.isnan(ordered), axis=-1, keepdims=True) - 1, 0) // 2
    return np.take_along_axis(ordered, middle, axis=-1)[..., 0]


def over_tasks(tasks: list[Measured], method: str, tuned: bool) -> str:
    """Returns the median of the tasks' medians, with a 95% interval: tasks and seeds drawn again."""
    ratios = np.array([measured.ratios(method, tuned) for measured in tasks])
    rng = np.random.default_rng(0)
    again = rng.integers(0, len(ratios), (500, len(ratios), 1))
    seeds = rng.integers(0, ratios.shape[1], (*again.shape[:2], ratios.shape[1]))
    drawn = np.sort(median(median(ratios[again, seeds])))
    low, high = drawn[len(drawn) // 40], drawn[-len(drawn) // 40]
    return f"**{number(median(median(ratios)))}** ({number(low)} to {number(high)})"


def reached(tasks: dict[str, Measured], method: str, tuned: bool) -> str:
    """Returns in how many cases, a task and a seed each, the target is reached at all."""
    times = [time for measured in tasks.values() for time in measured.times[method, tuned]]
    return f"{sum(map(math.isfinite, times))} of {len(times)}"


def ratio_table(tasks: dict[str, Measured], tuned: bool) -> str:
    """Returns a row for each task and one for all: times over that of `OneCycle`."""
    others = [method for method in (TUNED if tuned else METHODS) if method != ONE_CYCLE]
    rows = []
    for name, measured in tasks.items():
        cycle = median(measured.times[ONE_CYCLE, tuned])
        row = [name, f"{100 * PART_OF_BEST * measured.best:.1f}%", number(cycle, ",.0f")]
        for method in others:
            ratios = measured.ratios(method, tuned)
            there = sorted(ratio for ratio in ratios if not math.isnan(ratio))
            differ = there and there[0] != there[-1]
            span = f" ({number(there[0])} to {number(there[-1])})" if differ else ""
            row.append(number(median(ratios)) + span)
        rows.append(row)
    rows.append(
        ["all tasks", "", "", *(over_tasks(list(tasks.values()), m, tuned) for m in others)]
    )
    rows.append(
        ["reached", "", *(reached(tasks, method, tuned) for method in (ONE_CYCLE, *others))]
    )
    return table(["task", "target", "images that OneCycle needs", *others], rows)


def end_table(tasks: dict[str, Measured]) -> str:
    """Returns the accuracy after the longest training, mean and deviation of the seeds."""
    kinds = [(method, False) for method in METHODS] + [(ONE_CYCLE, True)]

    def told(end: list[float]) -> str:
        return f"{100 * np.mean(end):.1f} ± {100 * np.std(end, ddof=len(end) > 1):.1f}"

    rows = [
        [name, *(told(measured.ends[kind]) for kind in kinds)] for name, measured in tasks.items()
    ]
    means = [np.mean([m.ends[kind] for m in tasks.values()]) for kind in kinds]
    rows.append(["mean", *(f"**{100 * mean:.1f}**" for mean in means)])
    return table(["task", *METHODS, f"{ONE_CYCLE}, tuned"], rows)


def rate_table(tasks: dict[str, Measured]) -> str:
    """Returns the best of the grid for each task and method."""
    rows = [[name, *(f"{m.best_rates[method]:g}" for method in TUNED)] for name, m in tasks.items()]
    return table(["task", *TUNED], rows)


def report(tasks: dict[str, Measured]) -> dict[str, str]:
    """Returns the tables."""
    return {
        "untuned": ratio_table(tasks, tuned=False),
        "ends": end_table(tasks),
        "tuned": ratio_table(tasks, tuned=True),
        "rates": rate_table(tasks),
    }


def measure(
    store: Store, names: Sequence[str], seeds: int, *, small: bool = False, save: bool = False
) -> dict[str, str]:
    """Measures what is not in the store yet; returns the tables, and writes them after each task."""
    tasks: dict[str, Measured] = {}
    tables: dict[str, str] = {}
    for name in names:
        grid = GRIDS[TASKS[name][1]]
        sizes = (LENGTHS[:2], 2, grid[1:3]) if small else (LENGTHS, NO_END, grid)
        tasks[name] = Measured(store, name, seeds, *sizes)
        store.content["tasks"] = list(tasks)
        tables = report(tasks)
        print(f"\n{name} is done\n", file=sys.stderr, flush=True)
        if save:
            saving.write(__file__, store.content, tables, save=True)
    return tables


def main() -> None:
    """Measures, prints the tables, and writes them and the figures if asked to."""
    arguments = parse(__doc__, TASKS, next(iter(TASKS)))
    settings = {
        "lengths": list(LENGTHS),
        "no_end": NO_END,
        "part_of_best": PART_OF_BEST,
        **saving.environment(),
    }
    path = saving.results_file(__file__) if arguments.save else None
    store = Store(path, settings, arguments.resume)
    try:
        tables = measure(
            store, arguments.tasks, arguments.seeds, small=arguments.small, save=arguments.save
        )
    except FileNotFoundError as error:
        sys.exit(f"{error}\nOr leave it out, with --tasks.")
    saving.write(__file__, store.content, tables, save=arguments.save)


if __name__ == "__main__":
    main()
