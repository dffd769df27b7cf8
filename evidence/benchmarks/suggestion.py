"""How good the suggested learning rates are on what people train, and who earns the gain.

usage: python -m evidence.benchmarks.suggestion [--half find|judge] [--tasks NAME ...] [--seeds N]
                                                [--save] [--resume] [--small]

The battery has two parts: the rule of the short cycles was found on one, and judged once on the other. Each
case, a task with an optimizer and a batch size, is trained one cycle at each rate of a grid by half decades,
at the rates that `lr_find` suggests, and at those that only its curve suggests. Then, at the suggested rate,
with the schedules that Keras users take otherwise. A case counts by its excess: how much higher its final
validation loss is than that at the best rate that was tried.

On JAX. MNIST and CIFAR-10 come from `tensorflow_datasets`: name its folder in TFDS_DATA_DIR. With
`--save --resume`, the same command goes on after a kill.
"""

import math
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from evidence.benchmarks.measuring.battery import FIND, JUDGE, Case
from evidence.benchmarks.measuring.fast_training import DEFAULT_RATES, FastTraining
from evidence.benchmarks.measuring.saving import environment, results_file, write
from evidence.benchmarks.measuring.store import Store, parse
from evidence.pages import table

HALVES = {"find": FIND, "judge": JUDGE}
CASES = {case.name: case for half in HALVES.values() for case in half}
# By half decades, until two in a row end worse than they began. Lower where that may be better, to LOWEST.
LOWEST = 1e-7
GRID = {
    "SGD": [10 ** (k / 2) for k in range(-6, 3)],
    "Adam": [10 ** (k / 2) for k in range(-8, 2)],
    "AdamW": [10 ** (k / 2) for k in range(-8, 2)],
}
METHODS = {"short_cycles": "auto", "edge": "edge", "minimum": "minimum", "valley": "valley"}
DEFAULT = "Keras's default rate"
# Worse than this many times the best counts as this much.
MOST = 10.0
# Of the suggested rate: what another would have cost.
MULTIPLES = (1 / 3, 1 / 2, 2 / 3, 1, 1.5, 2, 3)
IMAGES = ("CIFAR-10", "MNIST", "digits", "fine-tuning")

Result = list[float]


def five(value: float) -> float:
    """Returns five digits, which a file has room for."""
    return float(f"{value:.5g}")


def trained(training: FastTraining, rates: np.ndarray, momenta: np.ndarray | None = None) -> Result:
    """Returns final validation loss and accuracy."""
    momenta = np.full(len(rates), 0.9) if momenta is None else momenta
    got = training.train(rates, momenta)
    return [five(got["val_loss"]), five(got["val_accuracy"])]


def cycle(training: FastTraining, max_lr: float) -> Result:
    """Trains one cycle; returns final validation loss and accuracy."""
    got = training.cycle(max_lr)
    return [five(got["val_loss"]), five(got["val_accuracy"])]


def on_grid(training: FastTraining) -> dict[str, Result]:
    """Returns what one cycle ends with at each rate of the grid."""
    case, results, worse = training.case, {}, 0
    start = training.loss_before()
    for rate in GRID[case.optimizer]:
        results[f"{rate:.4g}"] = result = cycle(training, rate)
        worse = worse + 1 if not result[0] < 1.5 * start else 0
        if worse == 2:
            break
    # Lower, while the best is among the three lowest: what diverges may end anywhere.
    rate = GRID[case.optimizer][0]
    while rate > LOWEST and among_the_lowest(results):
        rate /= 10**0.5
        results[f"{rate:.4g}"] = cycle(training, rate)
    return results


def among_the_lowest(results: Mapping[str, Result]) -> bool:
    """Returns whether the best rate is one of the three lowest."""
    loss = np.array([results[rate][0] for rate in sorted(results, key=float)])
    return int(np.argmin(np.where(np.isfinite(loss), loss, np.inf))) < 3


def suggested(training: FastTraining) -> dict[str, Any]:
    """Returns what `lr_find` suggests, by each method, and the updates that it took."""
    found = training.lr_find()
    rates: dict[str, Any] = {"updates": len(found.loss) + 50 * len(found.cycle_lr)}
    for name, method in METHODS.items():
        try:
            rates[name] = five(found.suggest(method))
        except ValueError:
            rates[name] = None
    return rates


def warmed_up(updates: int) -> np.ndarray:
    """Returns cosine decay to zero after a linear warm-up over a tenth of the updates."""
    warm_up = updates // 10
    steps = np.arange(updates)
    cosine = (1 + np.cos(np.pi * (steps - warm_up) / (updates - warm_up))) / 2
    return np.where(steps < warm_up, steps / warm_up, cosine)


def cosine(updates: int) -> np.ndarray:
    """Returns cosine decay to zero."""
    return (1 + np.cos(np.pi * np.arange(updates) / updates)) / 2


# Of the number of updates: the rate of each as a part of the highest.
SCHEDULES: dict[str, Callable[[int], np.ndarray]] = {
    "cosine with warm-up": warmed_up,
    "cosine": cosine,
    "constant": np.ones,
}
# The same, at the rate that Keras takes where none is given.
AT_DEFAULT = {"cosine, default rate": cosine, "constant, default rate": np.ones}
SCHEDULE_FREE = "`ScheduleFreeAdamW()`"


def other_schedules(training: FastTraining, rate: float) -> dict[str, Result]:
    """Returns what the other schedules end with at the suggested rate and at Keras's default."""
    case = training.case
    results = {}
    for name, schedule in SCHEDULES.items():
        results[name] = trained(training, rate * schedule(case.updates))
    for name, schedule in AT_DEFAULT.items():
        results[name] = trained(training, DEFAULT_RATES[case.optimizer] * schedule(case.updates))
    return results


def schedule_free(training: FastTraining) -> Result:
    """Returns what `ScheduleFreeAdamW()` ends with, on any task."""
    got = training.schedule_free()
    return [five(got["val_loss"]), five(got["val_accuracy"])]


def measure(store: Store, case: Case, seed: int) -> dict[str, Any]:
    """Returns all that is known of a case and seed; measures what is not in the store."""
    made: list[FastTraining] = []

    def training() -> FastTraining:
        # Made only where something is to be trained.
        made[:] = made or [FastTraining(case, seed)]
        return made[0]

    key = f"{case.name}/{seed}"
    grid = store.get("grid", key, lambda: on_grid(training()))
    rates = store.get("suggested", key, lambda: suggested(training()))
    at = {
        name: store.get("at", f"{key}/{name}", lambda rate=rates[name]: cycle(training(), rate))
        for name in METHODS
        if rates[name]
    }
    schedules = {}
    if rates["short_cycles"]:
        schedules = {
            **store.get(
                "schedules", key, lambda: other_schedules(training(), rates["short_cycles"])
            ),
            SCHEDULE_FREE: store.get("schedule_free", key, lambda: schedule_free(training())),
        }
    return {"grid": grid, "rates": rates, "at": at, "schedules": schedules}


def excess(result: Result | None, best: float) -> float:
    """Returns how much higher the loss is than the best, and at most `MOST`; NaN where there is none."""
    if result is None:
        return math.nan
    return min(result[0] / best - 1, MOST) if math.isfinite(result[0]) else MOST


class Measured:
    """A case: its excesses by method, and those of the schedules, one of each seed."""

    def __init__(self, case: Case, of_seeds: list[dict[str, Any]]) -> None:
        default = f"{DEFAULT_RATES[case.optimizer]:.4g}"
        self.case = case
        self.of_seeds = of_seeds
        self.best = [self._best(seed) for seed in of_seeds]
        # Where the grid ends below the default rate, that diverges.
        diverged = [math.nan, math.nan]
        losses = [{**seed["at"], DEFAULT: seed["grid"].get(default, diverged)} for seed in of_seeds]
        self.excess = {
            name: np.array(
                [
                    excess(loss.get(name), best[1])
                    for loss, best in zip(losses, self.best, strict=True)
                ]
            )
            for name in (*METHODS, DEFAULT)
        }
        self.schedules = {
            name: np.array(
                [
                    excess(seed["schedules"].get(name), best[1])
                    for seed, best in zip(of_seeds, self.best, strict=True)
                ]
            )
            for name in (*SCHEDULES, *AT_DEFAULT, SCHEDULE_FREE)
        }
        self.schedules["one cycle"] = self.excess["short_cycles"]

    @staticmethod
    def _tried(seed: Mapping[str, Any]) -> list[tuple[float, float, float]]:
        """Returns each rate that was tried, on the grid or by a suggestion, with its loss and accuracy."""
        tried = {float(rate): result for rate, result in seed["grid"].items()}
        tried |= {seed["rates"][name]: result for name, result in seed["at"].items()}
        return [(rate, *tried[rate]) for rate in sorted(tried)]

    def _best(self, seed: Mapping[str, Any]) -> tuple[float, float]:
        """Returns the best rate that was tried, and its loss."""
        tried = [one[:2] for one in self._tried(seed) if math.isfinite(one[1])]
        return min(tried, key=lambda one: one[1])

    def at_multiple(self, multiple: float) -> list[tuple[float, float]]:
        """Returns excess, and points of accuracy below the best, at so many times each suggestion.

        Between the rates that were tried, the logarithms of rate and loss are interpolated.
        """
        found = []
        for seed, (_, least) in zip(self.of_seeds, self.best, strict=True):
            if suggestion := seed["rates"]["short_cycles"]:
                rate, loss, accuracy = np.array(self._tried(seed)).T
                loss = np.where(np.isfinite(loss), loss, (1 + MOST) * least)
                accuracy = np.where(np.isfinite(accuracy), accuracy, 0)
                where = np.log(multiple * suggestion), np.log(rate)
                result = [float(np.exp(np.interp(*where, np.log(loss))))]
                below = 100 * (accuracy.max() - np.interp(*where, accuracy))
                found.append((excess(result, least), float(below)))
        return found


def percent(value: float) -> str:
    """Returns an excess as a table has it."""
    return "-" if math.isnan(value) else f"{100 * value:.0f}%"


def over_all(cases: list[Measured]) -> str:
    """Returns a row for each method: its excess over all cases and seeds."""
    rows = []
    default = np.concatenate([case.excess[DEFAULT] for case in cases])
    for name in (*METHODS, DEFAULT):
        values = np.concatenate([case.excess[name] for case in cases])
        there = values[np.isfinite(values)]
        none = len(values) - len(there)
        # Single trainings differ by more than a percent with the seed.
        worse = int(np.sum(values > default + 0.01))
        rows.append(
            [
                f"`{name}`" if name in METHODS else name,
                percent(there.mean()),
                percent(float(np.median(there))),
                percent(there.max()),
                f"{np.sum(there <= 0.1)} of {len(there)}",
                f"{np.sum(there > 0.5)} of {len(there)}",
                "" if name == DEFAULT else f"{worse} of {len(there)}",
                str(none),
            ]
        )
    header = [
        "rate by",
        "mean excess",
        "median",
        "worst",
        "within 10%",
        "above 50%",
        "worse than the default",
        "none",
    ]
    return table(header, rows)


def by_case(cases: list[Measured]) -> str:
    """Returns a row for each case."""
    rows = []
    for case in cases:
        rates = [seed["rates"]["short_cycles"] for seed in case.of_seeds]
        rows.append(
            [
                f"{case.case.name}: {case.case.updates}",
                " / ".join(f"{rate:.2g}" for rate, _ in case.best),
                " / ".join("none" if rate is None else f"{rate:.2g}" for rate in rates),
                *(
                    " / ".join(percent(value) for value in case.excess[name])
                    for name in ("short_cycles", "edge", DEFAULT)
                ),
            ]
        )
    header = [
        "task, optimizer, batch size: updates",
        "best",
        "suggested",
        "its excess",
        "`edge`",
        "default rate",
    ]
    return table(header, rows)


def around(cases: list[Measured]) -> str:
    """Returns a row for each multiple of the suggested rate."""
    rows = []
    for multiple in MULTIPLES:
        found = [(case, *at) for case in cases for at in case.at_multiple(multiple)]
        values = np.array([value for _, value, _ in found])
        below = [points for case, _, points in found if case.case.task.startswith(IMAGES)]
        rows.append(
            [
                f"{multiple:.2g}",
                percent(values.mean()),
                percent(float(np.median(values))),
                f"{np.sum(values > 0.5)} of {len(values)}",
                f"{np.mean(below):.2f}",
                f"{np.max(below):.2f}",
            ]
        )
    header = ["times the suggestion", "mean excess", "median", "above 50%"]
    return table([*header, "images: points below the best accuracy, mean", "worst"], rows)


def who_earns(cases: list[Measured]) -> str:
    """Returns a row for each schedule at the suggested rate, and for those at Keras's."""
    rows = []
    cycle_ = np.concatenate([case.schedules["one cycle"] for case in cases])
    for name in ("one cycle", *SCHEDULES, *AT_DEFAULT, SCHEDULE_FREE):
        values = np.concatenate([case.schedules[name] for case in cases])
        both = np.isfinite(values) & np.isfinite(cycle_)
        better = np.sum(values[both] < cycle_[both] - 0.01)
        rows.append(
            [
                f"{name}, suggested rate" if name in ("one cycle", *SCHEDULES) else name,
                percent(values[both].mean()),
                percent(float(np.median(values[both]))),
                percent(values[both].max()),
                "" if name == "one cycle" else f"{better} of {both.sum()}",
                ""
                if name == "one cycle"
                else f"{np.sum(cycle_[both] < values[both] - 0.01)} of {both.sum()}",
            ]
        )
    header = ["schedule", "mean excess", "median", "worst", "better than one cycle", "worse"]
    return table(header, rows)


def report(store: Store) -> dict[str, str]:
    """Returns the tables of what is in the store."""
    tables = {}
    for half, cases in HALVES.items():
        there = []
        for case in cases:
            keys = [key for key in store.content["suggested"] if key.startswith(f"{case.name}/")]
            seeds = sorted(int(key.rpartition("/")[2]) for key in keys)
            if seeds:
                there.append(Measured(case, [measure(store, case, seed) for seed in seeds]))
        if there:
            tables[half] = over_all(there)
            tables[f"{half}-cases"] = by_case(there)
            tables[f"{half}-around"] = around(there)
            tables[f"{half}-schedules"] = who_earns(there)
    return tables


def main() -> None:
    """Measures, prints the tables, and writes them and the numbers if asked to."""
    arguments = parse(__doc__ or "", CASES, "breast cancer, SGD, 16")
    path = results_file(__file__) if arguments.save else None
    store = Store(path, {"most": MOST, **environment()}, arguments.resume)
    for seed in range(arguments.seeds):
        for name in arguments.tasks:
            measure(store, CASES[name], seed)
            print(f"{name}, seed {seed} is done", file=sys.stderr, flush=True)
    write(__file__, store.content, report(store), save=arguments.save)


if __name__ == "__main__":
    main()
