"""One setting of a search: a short one-cycle training on each fold."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_onecycle._arguments import check_choice
from keras_onecycle._keras.penalty import penalty
from keras_onecycle.one_cycle import OneCycle
from keras_onecycle.range_tests.learning_rate import lr_find
from keras_onecycle.range_tests.result import RangeTestResult
from keras_onecycle.search._folds import Folds
from keras_onecycle.suggestion import SuggestionMethod

_LOWER = ("loss", "error", "mae", "mse", "mape", "msle", "divergence", "crossentropy")
_HIGHER = ("acc", "accuracy", "auc", "precision", "recall", "score", "iou", "r2", "similarity")

# Parameters of a setting that are for the training, where `build` has no argument of that name.
_CYCLE = tuple(name for name in inspect.signature(OneCycle).parameters if name != "total_steps")
_TRAINING = ("batch_size", "epochs", "lr_factor", *_CYCLE)

Report = Callable[[int, float], None]
"""Called with the epochs so far, over all folds, and the value after the last."""


@dataclass
class Outcome:
    """What a setting came to."""

    values: list[float] = field(default_factory=list)
    max_lr: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Plan:
    """A setting, split by what its parameters are for."""

    build: dict[str, Any]
    cycle: dict[str, Any]
    lr_factor: float
    epochs: int
    batch_size: int | None


def direction(monitor: str, mode: str) -> str:
    """Returns `"minimize"` or `"maximize"`, for what `monitor` is the name of."""
    if not isinstance(monitor, str) or not monitor.startswith("val_"):
        raise ValueError(
            "`monitor` must be the name of a validation loss or metric, as 'val_loss' or 'val_accuracy'. "
            f"Received: monitor={monitor!r}"
        )
    check_choice("mode", mode, ("auto", "min", "max"))
    if mode == "auto":
        words = monitor.removeprefix("val_").split("_")
        lower, higher = (any(w in words for w in kind) for kind in (_LOWER, _HIGHER))
        lower = lower or any(word.endswith(("loss", "error", "entropy")) for word in words)
        higher = higher or any(word.endswith(("acc", "accuracy")) for word in words)
        if lower == higher:
            raise ValueError(
                f"Whether {monitor!r} should be low or high is not known. Pass `mode='min'` or "
                f"`mode='max'`. Received: monitor={monitor!r}, mode='auto'"
            )
        mode = "min" if lower else "max"
    return "minimize" if mode == "min" else "maximize"


def check_parameters(build: Any, names: Sequence[str]) -> None:
    """Raises an error where `build` does not take a parameter, and training does not either."""
    if not callable(build):
        raise TypeError(
            f"`build` must be a function that returns a compiled model. Received: build={build!r}"
        )
    taken, anything = _taken(build)
    for name in names:
        if not anything and name not in taken and name not in _TRAINING:
            raise ValueError(
                f"`build` does not take {name!r}, a parameter of the grid. It takes: {sorted(taken)}; "
                f"training itself takes: {sorted(_TRAINING)}. Received: build={build!r}"
            )
    for name, parameter in inspect.signature(build).parameters.items():
        several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not several and name not in names:
            raise ValueError(
                f"`build` needs {name!r}, which the grid does not give and which has no default. "
                f"Received: build={build!r}, a grid over {list(names)}"
            )


def _taken(build: Callable[..., Any]) -> tuple[set[str], bool]:
    parameters = inspect.signature(build).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


@dataclass
class CrossValidation:
    """Trains a setting with one cycle on each fold; the fields are arguments of `grid_search`."""

    build: Callable[..., keras.Model]
    folds: Folds
    monitor: str
    max_lr: float | str | None
    epochs: int
    batch_size: int | None
    seed: int
    cycle: Mapping[str, Any]
    range_test: Mapping[str, Any]
    suggest: str | SuggestionMethod
    fit_arguments: Mapping[str, Any]

    def plan(self, params: Mapping[str, Any]) -> Plan:
        """Splits a setting by what its parameters are for."""
        taken, _ = _taken(self.build)
        of_training = {n: v for n, v in params.items() if n in _TRAINING and n not in taken}
        cycle = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "max_lr": self.max_lr,
            "lr_factor": 1.0,
            **self.cycle,
            **of_training,
        }
        return Plan(
            build={n: v for n, v in params.items() if n not in of_training},
            lr_factor=cycle.pop("lr_factor"),
            epochs=cycle.pop("epochs"),
            batch_size=cycle.pop("batch_size"),
            cycle=cycle,
        )

    def run(self, params: Mapping[str, Any], outcome: Outcome, report: Report | None) -> None:
        """Trains on every fold and writes what came out into `outcome`; `report` may raise to end it."""
        plan = self.plan(params)
        max_lr = plan.cycle["max_lr"]
        if max_lr == "each":
            max_lr = self.range_test_of(params).suggest(self.suggest)
        outcome.max_lr = plan.lr_factor * max_lr
        for number, (train, validation) in enumerate(self.folds):
            callbacks = []
            if report is not None:
                callbacks.append(_Report(self, validation, report, number * plan.epochs))
            model = self.train(plan, outcome.max_lr, train, self.seed + number, callbacks)
            outcome.values.append(self.evaluate(model, validation))
            if not np.isfinite([outcome.values[-1], *model.history.history["loss"]]).all():
                outcome.failure = "diverged: the loss is no longer a number"
                return

    def model(self, plan: Plan, seed: int) -> keras.Model:
        """Builds the model of a setting."""
        keras.utils.set_random_seed(seed)
        model = self.build(**plan.build)
        if not isinstance(model, keras.Model) or getattr(model, "optimizer", None) is None:
            raise TypeError(
                "`build` must return a `keras.Model` that is compiled with an optimizer. "
                f"Received: {model!r} from build={self.build!r}"
            )
        return model

    def train(
        self,
        plan: Plan,
        max_lr: float,
        train: tuple[Any, ...],
        seed: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> keras.Model:
        """Builds the model of a setting and trains it with one cycle."""
        model = self.model(plan, seed)
        fit_arguments = dict(self.fit_arguments)
        callbacks = [
            OneCycle(**{**plan.cycle, "max_lr": max_lr}),
            keras.callbacks.TerminateOnNaN(),
            *callbacks,
            *fit_arguments.pop("callbacks", []),
        ]
        model.fit(
            *train[:2],
            epochs=plan.epochs,
            verbose=0,
            callbacks=callbacks,
            **_of_arrays(train, plan.batch_size),
            **fit_arguments,
        )
        return model

    def evaluate(self, model: keras.Model, data: tuple[Any, ...]) -> float:
        """Returns the monitored value; a loss is that of the data alone, without regularizers."""
        arguments = _of_arrays(data, self.batch_size)
        logs = model.evaluate(*data[:2], verbose=0, return_dict=True, **arguments)
        name = self.monitor.removeprefix("val_")
        if name not in logs:
            raise ValueError(
                f"The model has no such metric; it has: {[f'val_{key}' for key in sorted(logs)]}. "
                f"Received: monitor={self.monitor!r}"
            )
        return float(logs[name]) - (penalty(model) if name == "loss" else 0.0)

    def check_monitor(self, model: keras.Model) -> None:
        """Evaluates an untrained model on two samples, so that a wrong name is told before training."""
        _, validation = self.folds.fold(0)
        if len(validation) > 1:
            first = keras.tree.map_structure(lambda a: None if a is None else a[:2], validation)
            self.evaluate(model, first)

    def range_test_of(self, params: Mapping[str, Any]) -> RangeTestResult:
        """Runs the range test of a setting, on the training data of the first fold."""
        plan = self.plan(params)
        train, _ = self.folds.fold(0)
        arguments = {**self.fit_arguments, **self.range_test}
        arguments.pop("callbacks", None)
        arguments |= _of_arrays(train, plan.batch_size)
        return lr_find(self.model(plan, self.seed), *train[:2], verbose=0, **arguments)


def _of_arrays(data: tuple[Any, ...], batch_size: int | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if len(data) > 2 and data[2] is not None:
        arguments["sample_weight"] = data[2]
    if batch_size is not None and len(data) > 1 and data[1] is not None:
        arguments["batch_size"] = batch_size
    return arguments


class _Report(keras.callbacks.Callback):
    """Reports the monitored value after each epoch, to a pruner."""

    def __init__(
        self,
        cross_validation: CrossValidation,
        validation: tuple[Any, ...],
        report: Report,
        epochs_before: int,
    ) -> None:
        super().__init__()
        self._cross_validation, self._validation = cross_validation, validation
        self._report, self._epochs_before = report, epochs_before

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value = self._cross_validation.evaluate(self.model, self._validation)
        self._report(self._epochs_before + epoch + 1, value)
