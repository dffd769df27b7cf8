"""What a suggested learning rate loses to the best one of a grid, over sets, optimizers and seeds."""

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from evidence.benchmarks.measuring import saving
from evidence.benchmarks.measuring.store import Store, parse
from evidence.benchmarks.measuring.tasks import Task
from evidence.pages import table
from keras_onecycle import OneCycle, RangeTestResult, lr_find
from keras_onecycle.suggestion import DEFAULT

# The learning rates of SGD and AdamW, by half decades.
GRID = {
    "SGD": [10 ** (k / 2) for k in range(-5, 2)],
    "AdamW": [10 ** (k / 2) for k in range(-8, -1)],
}

# Without a range test: what Keras takes where no learning rate is given, and what is usual.
NO_TEST = {
    "Keras's default rate": {"SGD": 0.01, "Adam": 0.001, "AdamW": 0.001},
    "0.1 (SGD), 0.01 (Adam)": {"SGD": 0.1, "Adam": 0.01, "AdamW": 0.01},
}

OPTIMIZERS: dict[str, Callable[[], keras.Optimizer]] = {
    "SGD": lambda: keras.optimizers.SGD(momentum=0.9),
    "Adam": keras.optimizers.Adam,
    "AdamW": keras.optimizers.AdamW,
}


def compiled(task: Task, optimizer: str, seed: int) -> keras.Model:
    """Returns the network with weights drawn by the seed; the order of the batches starts from it too."""
    # Otherwise hundreds of models in one process would take gigabytes.
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    (x, _), _ = task.load(seed)
    model = task.network(x, task.classes)
    model.compile(
        OPTIMIZERS[optimizer](),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def range_test(task: Task, optimizer: str, seed: int) -> dict[str, list[float]]:
    """Returns the curve of `lr_find` with its defaults."""
    (x, y), _ = task.load(seed)
    model = compiled(task, optimizer, seed)
    result = lr_find(model, x, y, batch_size=task.batch_size, verbose=0)
    return {
        name: [float(f"{value:.5g}") for value in getattr(result, name)]
        for name in ("lr", "loss", "smoothed_loss")
    }


def train(task: Task, optimizer: str, seed: int, max_lr: float) -> dict[str, float]:
    """Trains one cycle; returns the final validation accuracy and loss, capped at that of guessing."""
    (x, y), (val_x, val_y) = task.load(seed)
    model = compiled(task, optimizer, seed)
    cycle = OneCycle(max_lr=max_lr)
    model.fit(x, y, batch_size=task.batch_size, epochs=task.epochs, verbose=0, callbacks=[cycle])
    loss, accuracy = model.evaluate(val_x, val_y, batch_size=len(val_x), verbose=0)
    guessing = math.log(task.classes)
    loss = min(loss, guessing) if math.isfinite(loss) else guessing
    return {"accuracy": round(accuracy, 6), "loss": round(loss, 6)}


def suggestions(
    curve: dict[str, list[float]], optimizer: str, methods: Sequence[str]
) -> dict[str, float | None]:
    """Returns each contestant's learning rate, `None` where a method refuses the curve."""
    suggested: dict[str, float | None] = {}
    result = RangeTestResult(**{name: np.array(values) for name, values in curve.items()})
    for name in methods:
        try:
            suggested[name] = result.suggest(name)
        except ValueError:
            suggested[name] = None
    return suggested | {name: rates[optimizer] for name, rates in NO_TEST.items()}


def key(rate: float) -> str:
    """Returns the learning rate as the results are filed by."""
    return f"{rate:.4g}"


@dataclass
class Cell:
    """A set with an optimizer: learning rates, and accuracies and losses by seed and learning rate."""

    grid: list[float]
    of_grid: np.ndarray  # (seeds, rates, 2), accuracy in percent and loss
    suggested: dict[str, np.ndarray]  # of each method (seeds,), NaN where there is none
    of_method: dict[str, np.ndarray]  # of each method (seeds, 2)

    @property
    def best(self) -> int:
        """The place in the grid of the best accuracy, and among equals of the lowest loss."""
        accuracy, loss = self.of_grid.mean(axis=0).T
        return int(np.lexsort((loss, -accuracy))[0])

    def regret(self, method: str) -> np.ndarray:
        """Returns accuracy and loss lost by each seed, (seeds, 2), both above 0 where it is worse."""
        lost = self.of_grid[:, self.best] - self.of_method[method]
        return lost * [1, -1]


def measure(
    store: Store,
    task_name: str,
    task: Task,
    optimizer: str,
    seeds: int,
    grid: list[float],
    methods: Sequence[str],
) -> Cell:
    """Measures what is not in the store yet; returns all of a set with an optimizer."""

    def at(seed: int, rate: float | None) -> list[float]:
        if rate is None:
            return [math.nan, math.nan]
        name = f"{task_name}/{optimizer}/{seed}/{key(rate)}"
        found = store.get("trainings", name, train, task, optimizer, seed, float(key(rate)))
        return [100 * found["accuracy"], found["loss"]]

    suggested, of_grid, of_method = [], [], []
    for seed in range(seeds):
        name = f"{task_name}/{optimizer}/{seed}"
        curve = store.get("curves", name, range_test, task, optimizer, seed)
        suggested.append(suggestions(curve, optimizer, methods))
        of_grid.append([at(seed, rate) for rate in grid])
        of_method.append({method: at(seed, rate) for method, rate in suggested[-1].items()})
        rates = {m: rate and key(rate) for m, rate in suggested[-1].items()}
        print(f"{name}: {rates}", file=sys.stderr, flush=True)
    return Cell(
        grid,
        np.array(of_grid),
        {m: np.array([one[m] for one in suggested], dtype=float) for m in suggested[0]},
        {m: np.array([one[m] for one in of_method], dtype=float) for m in suggested[0]},
    )


def mean_and_std(values: np.ndarray, form: str) -> str:
    """Returns mean and standard deviation of what is there, and how many are not."""
    there = values[np.isfinite(values)]
    missing = f", none for {len(values) - len(there)}" if len(there) < len(values) else ""
    if not len(there):
        return f"none for {len(values)}"
    std = there.std(ddof=1) if len(there) > 1 else math.nan
    return f"{there.mean():{form}} ± {std:{form}}{missing}"


def over_all(cells: Sequence[Cell]) -> str:
    """Returns a table with a row for each contestant: regrets over sets and optimizers."""
    regrets = {m: np.array([cell.regret(m) for cell in cells]) for m in cells[0].suggested}
    of_default = np.nanmean(regrets[DEFAULT][..., 0], axis=1)
    rows = []
    for method, regret in regrets.items():
        of_sets = np.nanmean(regret[..., 0], axis=1)
        # A mean over the sets is one number a seed.
        of_seeds = np.nanmean(regret, axis=0)
        refused = np.isnan(regret[..., 0])
        rows.append(
            [
                method + (" (default)" if method == DEFAULT else ""),
                mean_and_std(of_seeds[:, 0], ".2f"),
                f"{of_sets.max():.2f}",
                f"{np.nanmax(regret[..., 0]):.2f}",
                mean_and_std(of_seeds[:, 1], ".3f"),
                f"{(of_sets < of_default).sum()} / {(of_sets > of_default).sum()}",
                f"{refused.sum()} of {refused.size}",
            ]
        )
    header = [
        "learning rate by",
        "regret, percentage points",
        "worst set",
        "worst training",
        "loss above the best",
        "sets better / worse than the default",
        "no suggestion",
    ]
    return table(header, rows)


def by_set(cells: dict[str, Cell], which: int, form: str) -> str:
    """Returns a table with a row for each set and optimizer: regret in accuracy (0) or loss (1)."""
    rows = []
    for name, cell in cells.items():
        best = cell.of_grid[:, cell.best, which]
        edge = " (end of the grid)" if cell.best in (0, len(cell.grid) - 1) else ""
        rows.append([name, f"{key(cell.grid[cell.best])}{edge}", mean_and_std(best, form)])
        rows[-1] += [mean_and_std(cell.regret(method)[:, which], form) for method in cell.suggested]
    return table(["set, optimizer", "best LR", "at the best", *cell.suggested], rows)


def learning_rates(cells: dict[str, Cell]) -> str:
    """Returns a table with a row for each set and optimizer: what was suggested."""
    rows = []
    for name, cell in cells.items():
        methods = [method for method in cell.suggested if method not in NO_TEST]
        spans = []
        for method in methods:
            rates = cell.suggested[method][np.isfinite(cell.suggested[method])]
            spans.append(f"{rates.min():.2g} to {rates.max():.2g}" if len(rates) else "none")
        rows.append([name, key(cell.grid[cell.best]), *spans])
    return table(["set, optimizer", "best LR", *methods], rows)


def on_the_grid(cells: dict[str, Cell]) -> str:
    """Returns a table with a row for each set and optimizer: accuracy at each learning rate."""
    rates = sorted({rate for cell in cells.values() for rate in cell.grid})
    rows = []
    for name, cell in cells.items():
        mean = dict(zip(cell.grid, cell.of_grid[..., 0].mean(axis=0), strict=True))
        rows.append([name, *(f"{mean[rate]:.1f}" if rate in mean else "" for rate in rates)])
    return table(["set, optimizer", *map(key, rates)], rows)


@dataclass
class Comparison:
    """What is compared, and what its page says of it.

    Args:
        tasks: What is trained, by name.
        grids: Function of a task's name that returns the learning rates of each optimizer.
        methods: Names of what `RangeTestResult.suggest` offers, the default first.
        told: What the page says of the sets.
    """

    tasks: Mapping[str, Task]
    grids: Callable[[str], dict[str, list[float]]]
    methods: Sequence[str]
    told: str

    def cells(
        self, store: Store, seeds: int, names: Sequence[str] | None = None, *, small: bool = False
    ) -> dict[str, Cell]:
        """Measures what is not in the store yet; returns a cell for each set and optimizer."""
        return {
            f"{name}, {optimizer}": measure(
                store,
                name,
                self.tasks[name],
                optimizer,
                seeds,
                rates[4:6] if small else rates,
                self.methods,
            )
            for name in names or self.tasks
            for optimizer, rates in self.grids(name).items()
        }

    def report(self, cells: dict[str, Cell], seeds: int) -> str:
        """Returns all tables, with headings."""
        parts = [
            f"{seeds} seeds; mean ± standard deviation over the seeds. {self.told} Regret is the accuracy "
            "at the best rate of the grid less that at the suggested rate; below 0 the latter was better.",
            "All sets, with both optimizers:",
            over_all(list(cells.values())),
            "Accuracy (%) at the best learning rate of the grid, and percentage points below it:",
            by_set(cells, 0, ".2f"),
            "Validation loss at the best learning rate, and how far above it:",
            by_set(cells, 1, ".3f"),
            "Suggested learning rates, lowest to highest of the seeds:",
            learning_rates(cells),
            "Accuracy (%) on the grid, mean of the seeds:",
            on_the_grid(cells),
        ]
        return "\n\n".join(parts)

    def run(self, script: str, doc: str, small_task: str) -> None:
        """Measures, prints the tables, and writes them and the figures if asked to."""
        arguments = parse(doc, self.tasks, small_task)
        settings = {
            name: {"classes": task.classes, "batch_size": task.batch_size, "epochs": task.epochs}
            for name, task in self.tasks.items()
        }
        settings["environment"] = saving.environment()
        path = saving.results_file(script) if arguments.save else None
        store = Store(path, settings, arguments.resume)
        try:
            cells = self.cells(store, arguments.seeds, arguments.tasks, small=arguments.small)
        except FileNotFoundError as error:
            sys.exit(f"{error}\nOr leave it out, with --tasks.")
        tables = self.report(cells, arguments.seeds)
        saving.write(script, store.content, tables, save=arguments.save)
