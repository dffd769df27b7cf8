"""Trainings that are made once: each has a folder that its settings name, and is read from there.

The figures ask for trainings and range tests as if they were free. Those that are done are read from
their files. The others are trained, or named in an error where only pictures are to be drawn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from evidence.pages import ROOT
from evidence.reproduction import SEEDS, MissingRunError
from evidence.reproduction.cifar_resnet.presets import PRESETS
from examples.cifar10 import training
from examples.cifar10.devices import Devices
from examples.cifar10.precision import fast_precision
from examples.cifar10.resume import check_settings
from examples.cifar10.settings import Settings, read_json, write_json
from keras_onecycle import RangeTestResult, lr_find


class Trainings:
    """The trainings of a preset: makes what the figures ask for, or reads it.

    Args:
        preset: String, a key of `PRESETS`.
        out: Path of the folder that has `evidence/results/`, with the trainings, and `docs/`, with the
            pictures. Defaults to this repository.
        seeds: Integer, trainings of each kind that are made where they are missing; at most 4. What is
            there of more seeds is read, too.
        command: String that errors tell the user to run.
        train: Whether what is missing is trained.
        resume: Whether what is unfinished goes on.
        data_dir: Path of the data. Defaults to `None`: as in `data.load_arrays`.
        verbose: As in `fit`.
    """

    def __init__(
        self,
        preset: str,
        seeds: int,
        command: str,
        *,
        out: Path = ROOT,
        train: bool = True,
        resume: bool = False,
        data_dir: Path | None = None,
        verbose: int = 1,
    ) -> None:
        self.results = out / "evidence" / "results" / "super-convergence" / preset
        self.pictures = out / "docs" / "super-convergence" / preset
        # All trainings of a preset have the same precision: that of those that are there already.
        stored = next(self.results.glob("*/settings.json"), None)
        precision = read_json(stored)["precision"] if stored else fast_precision()[0]
        base = replace(PRESETS[preset].base, precision=precision)
        self.preset = replace(PRESETS[preset], base=base)
        self.command = command
        self.seeds = SEEDS[:seeds]
        self.train, self.resume = train, resume
        self.data_dir, self.verbose = data_dir, verbose

    def run(self, **changes: Any) -> dict[str, Any]:
        """Returns the results of a training whose settings differ from the base by `changes`."""
        settings = replace(self.preset.base, **changes)
        folder = self._folder(settings)
        path = folder / "results.json"
        if path.exists():
            check_settings(settings, folder)
            return read_json(path)
        self._announce(folder, settings.seed)
        return training.run(
            settings,
            folder,
            data_dir=self.data_dir,
            verbose=self.verbose,
            backup_freq=settings.validation_freq,
        )

    def runs(self, **changes: Any) -> list[dict[str, Any]]:
        """Returns the results of a training, one a seed."""
        return self._of_seeds(self.run, changes)

    def range_tests(self, **arguments: Any) -> list[RangeTestResult]:
        """Returns range tests, one a seed."""
        return self._of_seeds(self.range_test, arguments)

    def range_test(
        self, *, num_steps: int, validate: bool = False, **changes: Any
    ) -> RangeTestResult:
        """Returns a linear range test from 0, with test loss and accuracy along the way if asked for."""
        settings = replace(self.preset.base, policy="constant", **changes)
        max_lr = self.preset.range_test_max_lr
        name = f"range_test-to={max_lr:g}-updates={num_steps}{'-validated' if validate else ''}"
        folder = self._folder(settings, name)
        path = folder / "range_test.json"
        if path.exists():
            check_settings(settings, folder)
            return RangeTestResult.load(path)
        self._announce(folder, settings.seed)
        prepared = training.prepare(settings, Devices(), self.data_dir)
        result = lr_find(
            prepared.model,
            prepared.train,
            min_lr=0.0,
            max_lr=max_lr,
            num_steps=num_steps,
            mode="linear",
            cycle_steps=0,
            stop_factor=None,
            validation_data=prepared.test if validate else None,
            validation_freq=max(1, num_steps // 25) if validate else None,
            verbose=self.verbose,
            shuffle=False,
        )
        write_json(folder / "settings.json", asdict(settings))
        result.save(path)
        return result

    def best_lr(self, policy: str) -> tuple[float, dict[float, float]]:
        """Returns the best learning rate of the grid, and the test accuracy of each.

        Every policy gets the same grid, which goes on by factors of about 3 while the best rate
        stands at an end of it.
        """
        if policy in self.preset.rates:
            return self.preset.rates[policy], {}
        epochs = self.preset.tuning_epochs or self.preset.base.epochs
        if policy == "piecewise" and self.preset.tuning_epochs is None:
            baselines = self.preset.baseline_epochs
            epochs = baselines[len(baselines) // 2]
        accuracy: dict[float, float] = {}
        rates = list(self.preset.grid)
        while True:
            for rate in rates:
                results = self.run(
                    policy=policy, max_lr=rate, epochs=epochs, seed=self.preset.tuning_seed
                )
                # A training that diverged is no better than none.
                diverged = results["test_loss"] is None
                accuracy[rate] = 0.0 if diverged else results["test_accuracy"]
            best = max(accuracy, key=accuracy.get)
            if min(accuracy) < best < max(accuracy):
                return best, dict(sorted(accuracy.items()))
            factor = np.sqrt(10) if best == max(accuracy) else 1 / np.sqrt(10)
            rates = [float(f"{best * factor:.1g}")]

    def machines(self) -> str:
        """Returns what the trainings that are there were made with."""
        results = map(read_json, self.results.glob("*/results.json"))
        return "; ".join(sorted({_machine(one) for one in results}))

    def _of_seeds(self, make: Callable[..., Any], arguments: Mapping[str, Any]) -> list[Any]:
        found, missing = [], []
        for seed in SEEDS:
            try:
                found.append(make(seed=seed, **arguments))
            except MissingRunError as error:
                missing.append(error)
        if not found:
            raise missing[0]
        return found

    def _folder(self, settings: Settings, kind: str | None = None) -> Path:
        base = self.preset.base
        changed = [
            f"{field.name}={getattr(settings, field.name)}"
            for field in fields(settings)
            if field.name not in ("policy", "seed")
            and getattr(settings, field.name) != getattr(base, field.name)
        ]
        name = "-".join([kind or settings.policy, *changed, f"seed={settings.seed}"])
        return self.results / name

    def _announce(self, folder: Path, seed: int) -> None:
        if not self.train or seed not in (*self.seeds, self.preset.tuning_seed):
            raise MissingRunError(
                f"The training {folder.name} is not done. Run `{self.command}` first."
            )
        if folder.exists() and not self.resume:
            raise ValueError(
                f"The training {folder} is not finished. Run `{self.command} --resume` to go on with it, or "
                "delete the folder."
            )
        print(f"-- {folder.name}", flush=True)


def accuracies(runs: Sequence[dict[str, Any]]) -> np.ndarray:
    """Returns the last test accuracies in percent."""
    return 100 * np.array([run["test_accuracy"] for run in runs])


def _machine(results: Mapping[str, Any]) -> str:
    e = results["environment"]
    cores = "1 core" if e["cores"] == 1 else f"{e['cores']} cores"
    told = [f"{e['backend']} {e[e['backend']]}", f"Keras {e['keras']}", cores, *e["devices"]]
    told.append(results["settings"]["precision"])
    return ", ".join(told)
