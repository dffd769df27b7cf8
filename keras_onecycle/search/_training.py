"""One setting of a search: a short one-cycle training on each fold."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_onecycle._arguments import check_choice, check_int
from keras_onecycle._keras.penalty import penalty
from keras_onecycle.one_cycle import OneCycle
from keras_onecycle.range_tests.learning_rate import lr_find
from keras_onecycle.range_tests.suggestion import SuggestionMethod
from keras_onecycle.search._folds import Folds

_LOWER = ("loss", "error", "mae", "mse", "mape", "msle", "divergence", "crossentropy")
_HIGHER = ("acc", "accuracy", "auc", "precision", "recall", "score", "iou", "r2", "similarity")

# Arguments of a training that are no arguments of `build`: a setting may have them all the same.
_CYCLE = tuple(name for name in inspect.signature(OneCycle).parameters if name != "total_steps")
_TRAINING = ("batch_size", "epochs", *_CYCLE)

Report = Callable[[int, float], None]
"""Called with the epochs so far, over all folds, and the value after the last."""


class DivergedError(ArithmeticError):
    """A training whose loss is no longer a number, or a range test that suggests no rate."""


@dataclass
class Outcome:
    """What a setting came to.

    Args:
        values: The monitored value of each fold that was trained.
        max_lr: The highest learning rate of its cycles.
    """

    values: list[float] = field(default_factory=list)
    max_lr: float | None = None


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
        needed = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if needed and name not in names:
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
    """Trains a setting with one cycle on each fold, and says how well.

    Args:
        build: Function of the parameters that returns a compiled model.
        folds: The data, `Folds`.
        monitor: String, `"val_loss"` (without what regularizers add) or a validation metric.
        max_lr: Float, or `None` for what a range test on the first fold suggests.
        epochs: Integer, of each training.
        batch_size: Integer, or `None` where the data comes in batches.
        seed: Integer: fold `n` of every setting is trained with `seed + n`.
        cycle: Arguments of `OneCycle`.
        range_test: Arguments of `lr_find`.
        suggest: What `RangeTestResult.suggest` takes.
        fit_arguments: What else `fit` is given.
    """

    build: Callable[..., keras.Model]
    folds: Folds
    monitor: str
    max_lr: float | None
    epochs: int
    batch_size: int | None
    seed: int
    cycle: Mapping[str, Any]
    range_test: Mapping[str, Any]
    suggest: str | SuggestionMethod
    fit_arguments: Mapping[str, Any]
    _checked: bool = False

    def run(self, params: Mapping[str, Any], report: Report | None = None) -> Outcome:
        """Trains on every fold.

        Args:
            params: Dict, the setting.
            report: Called after each epoch, which is then evaluated. It may raise to end it all.

        Returns:
            An `Outcome`.

        Raises:
            DivergedError: If a loss is no number any more; what was seen until then is its argument.
        """
        if not self._checked:
            self._check_monitor(params)
        outcome = Outcome()
        max_lr = self._training(params).pop("max_lr", self.max_lr)
        for number, (train, validation) in enumerate(self.folds):
            if number == 0 and max_lr is None:
                max_lr = self._find_lr(params, train, outcome)
            outcome.max_lr = max_lr
            epochs_before = number * self._training(params).get("epochs", self.epochs)
            callbacks = []
            if report is not None:
                callbacks.append(_Report(self, validation, report, epochs_before))
            model = self.train(params, max_lr, train, self.seed + number, callbacks)
            value = self.evaluate(model, validation)
            outcome.values.append(value)
            if not np.isfinite([value, *model.history.history["loss"]]).all():
                raise DivergedError("the loss is no longer a number", outcome)
        return outcome

    def model(self, params: Mapping[str, Any], seed: int) -> keras.Model:
        """Builds the model of a setting."""
        keras.utils.set_random_seed(seed)
        training = self._training(params)
        model = self.build(**{n: v for n, v in params.items() if n not in training})
        if not isinstance(model, keras.Model) or getattr(model, "optimizer", None) is None:
            raise TypeError(
                "`build` must return a `keras.Model` that is compiled with an optimizer. "
                f"Received: {model!r} from build={self.build!r}"
            )
        return model

    def train(
        self,
        params: Mapping[str, Any],
        max_lr: float,
        train: tuple[Any, ...],
        seed: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> keras.Model:
        """Builds the model of a setting and trains it with one cycle."""
        model = self.model(params, seed)
        training = {"epochs": self.epochs, **self._training(params), "max_lr": max_lr}
        cycle = {name: value for name, value in training.items() if name in _CYCLE}
        fit_arguments = dict(self.fit_arguments)
        callbacks = [
            OneCycle(**{**self.cycle, **cycle}),
            keras.callbacks.TerminateOnNaN(),
            *callbacks,
            *fit_arguments.pop("callbacks", []),
        ]
        model.fit(
            *train[:2],
            epochs=training["epochs"],
            verbose=0,
            callbacks=callbacks,
            **self._of_arrays(train, params),
            **fit_arguments,
        )
        return model

    def evaluate(self, model: keras.Model, data: tuple[Any, ...]) -> float:
        """Returns the monitored value; a loss is that of the data alone, without regularizers."""
        logs = model.evaluate(*data[:2], verbose=0, return_dict=True, **self._of_arrays(data, {}))
        name = self.monitor.removeprefix("val_")
        if name not in logs:
            raise ValueError(
                f"The model has no such metric; it has: {[f'val_{key}' for key in sorted(logs)]}. "
                f"Received: monitor={self.monitor!r}"
            )
        return float(logs[name]) - (penalty(model) if name == "loss" else 0.0)

    def _check_monitor(self, params: Mapping[str, Any]) -> None:
        """Evaluates an untrained model on two samples, so that a wrong name is told before training."""
        self._checked = True
        _, validation = self.folds.fold(0)
        if len(validation) > 1:
            few = keras.tree.map_structure(
                lambda leaf: None if leaf is None else leaf[:2], validation
            )
            self.evaluate(self.model(params, self.seed), few)

    def _find_lr(self, params: Mapping[str, Any], train: tuple[Any, ...], seen: Outcome) -> float:
        model = self.model(params, self.seed)
        arguments = {**self.fit_arguments, **self.range_test}
        arguments.pop("callbacks", None)
        result = lr_find(
            model, *train[:2], verbose=0, **self._of_arrays(train, params), **arguments
        )
        try:
            return result.suggest(self.suggest)
        except ValueError as error:
            raise DivergedError(f"no learning rate: {error}", seen) from error

    def _training(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that are arguments of the training and not of `build`."""
        taken, _ = _taken(self.build)
        return {n: v for n, v in params.items() if n in _TRAINING and n not in taken}

    def _of_arrays(self, data: tuple[Any, ...], params: Mapping[str, Any]) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if len(data) > 2 and data[2] is not None:
            arguments["sample_weight"] = data[2]
        batch_size = self._training(params).get("batch_size", self.batch_size)
        if batch_size is not None and len(data) > 1 and data[1] is not None:
            arguments["batch_size"] = check_int("batch_size", batch_size)
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
