"""Trainings of LeNet that are made once: each is a file in evidence/results/mnist-lenet.

A training that is interrupted begins anew; those that are done are kept.
"""

import json
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evidence.pages import ROOT
from evidence.reproduction import SEEDS, MissingRunError
from evidence.reproduction.mnist_lenet.lenet import Run, compiled, data, run, train
from keras_onecycle import RangeTestResult, lr_find

# The seed that rates are chosen with.
TUNING_SEED = 100
# The grid that every policy gets.
RATES = (0.01, 0.03, 0.1, 0.3)


class Trainings:
    """Trains what the figures ask for, or reads it.

    Args:
        seeds: Integer, trainings of each kind that are made where they are missing; at most 4. What is
            there of more seeds is read, too.
        command: String that errors tell the user to run.
        out: Path of the folder that has `evidence/results/` and `docs/`. Defaults to this repository.
        train: Whether what is missing is trained.
        processes: Integer, trainings at a time.
        data: Path of an `mnist.npz`. Defaults to `None`: by `tensorflow_datasets`.
    """

    def __init__(
        self,
        seeds: int = 2,
        command: str = "",
        *,
        out: Path = ROOT,
        train: bool = True,
        processes: int = 1,
        data: Path | None = None,
    ) -> None:
        self.results = out / "evidence" / "results" / "mnist-lenet"
        self.pictures = out / "docs" / "super-convergence" / "mnist-lenet"
        self.seeds, self.command = SEEDS[:seeds], command
        self.train, self.processes, self.data = train, processes, data

    def of(self, *runs: Run) -> list[list[dict[str, Any]]]:
        """Returns the results of each training, one a seed."""
        self.make(replace(one, seed=seed) for seed in self.seeds for one in runs)
        found = []
        for one in runs:
            of_seeds = [self.read(replace(one, seed=seed)) for seed in SEEDS]
            found.append([result for result in of_seeds if result is not None])
            if not found[-1]:
                raise self._missing(one.name)
        return found

    def best_lr(self, policy: str, epochs: int) -> tuple[float, dict[float, float]]:
        """Returns the rate of the grid that ends best with the tuning seed, and each end in percent."""
        grid = {rate: run(policy, rate, epochs, TUNING_SEED) for rate in RATES}
        self.make(grid.values())
        results = {rate: self.read(one) for rate, one in grid.items()}
        if None in results.values():
            raise self._missing(f"grid of {policy} in {epochs} epochs")
        ends = {rate: 100 * result["test_accuracy"][-1] for rate, result in results.items()}
        return max(ends, key=ends.get), ends

    def range_tests(self, one: Run, num_steps: int, max_lr: float) -> list[RangeTestResult]:
        """Returns linear range tests from 0 of the network of a training, one a seed."""
        found = []
        for seed in SEEDS:
            name = replace(one, seed=seed).name
            path = self.results / f"range_test-to={max_lr:g}-updates={num_steps}-{name}.json"
            if not path.exists() and self.train and seed in self.seeds:
                (x, y), test = data(self.data)
                result = lr_find(
                    # With the momentum that the cycle has at its highest rate.
                    compiled(replace(one, seed=seed), one.lr, one.momentum[1]),
                    x,
                    y,
                    batch_size=one.batch_size,
                    min_lr=0.0,
                    max_lr=max_lr,
                    num_steps=num_steps,
                    cycle_steps=0,
                    mode="linear",
                    validation_data=test,
                    validation_freq=num_steps // 20,
                    verbose=0,
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                result.save(path)
            found += [RangeTestResult.load(path)] if path.exists() else []
        if not found:
            raise self._missing(f"range test of {num_steps} updates")
        return found

    def make(self, runs: Iterable[Run]) -> None:
        """Trains those that are missing, some at a time."""
        missing = [one for one in dict.fromkeys(runs) if self.read(one) is None]
        if not self.train or not missing:
            return
        missing.sort(key=lambda one: -one.epochs)  # The last to end are short ones.
        # Not forked: no backend survives that.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.processes, context) as pool:
            trained = [pool.submit(train, one, self.data) for one in missing]
            for future in as_completed(trained):
                if future.exception() is None:
                    self.write(future.result())
        for future in trained:
            future.result()  # Raises what a training raised, after the others are kept.

    def read(self, one: Run) -> dict[str, Any] | None:
        """Returns the result of a training, or None where it is not done."""
        path = self.results / f"{one.name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write(self, result: dict[str, Any]) -> None:
        """Writes the file of a training, whole or not at all."""
        one = Run(**{**result["run"], "momentum": tuple(result["run"]["momentum"])})
        path = self.results / f"{one.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
        partial = path.with_name(path.name + ".partial")
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        partial.replace(path)
        print(one.name, result["test_accuracy"][-1], flush=True)

    def machines(self) -> str:
        """Returns what the trainings that are there were made with."""
        results = (json.loads(f.read_text(encoding="utf-8")) for f in self.results.glob("*.json"))
        return "; ".join(sorted({one["environment"] for one in results if "environment" in one}))

    def _missing(self, name: str) -> MissingRunError:
        return MissingRunError(f"The training {name} is not done. Run `{self.command}` first.")


def accuracies(results: list[dict[str, Any]]) -> np.ndarray:
    """Returns the last test accuracies in percent."""
    return np.array([100 * result["test_accuracy"][-1] for result in results])
