"""One setting, judged by a short one-cycle training on each fold."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import keras
import numpy as np

from keras_onecycle._arguments import check_compiled, check_int
from keras_onecycle._keras.data import take
from keras_onecycle._keras.loss_parts import penalty
from keras_onecycle.one_cycle import OneCycle
from keras_onecycle.range_tests.learning_rate import lr_find
from keras_onecycle.search import _folds

Data = tuple[Any, ...]  # What `fit` takes as `x`, `y` and `sample_weight`.


def cross_val_score(
    build: Callable[[], keras.Model],
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    cv: int | Iterable[tuple[np.ndarray, np.ndarray]] = 5,
    validation_data: Any = None,
    monitor: str = "val_loss",
    max_lr: float | None = None,
    epochs: int = 10,
    batch_size: int = 32,
    seed: int = 0,
    one_cycle: Mapping[str, Any] | None = None,
    **fit_arguments: Any,
) -> np.ndarray:
    """Trains a model with one short cycle on each fold, and returns the validation loss of each.

    Large learning rates regularize, so one cycle needs less weight decay and dropout. This function judges
    one setting of them. Hand it to the search that you use: Optuna, KerasTuner, a loop.

    Example:

    >>> x = np.random.rand(60, 4)
    >>> def build(weight_decay):
    ...     l2 = keras.regularizers.L2(weight_decay / 2)
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, kernel_regularizer=l2)])
    ...     model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    ...     return model
    >>> values = keras_onecycle.search.cross_val_score(
    ...     lambda: build(weight_decay=1e-3), x, x.sum(axis=1), cv=2, epochs=1, max_lr=0.1
    ... )
    >>> values.shape
    (2,)

    Args:
        build: Function without arguments that returns a compiled `keras.Model`. Global seeds are set
            before each call.
        x: Array, or dict, list or tuple of arrays: NumPy, pandas, SciPy's sparse matrices or tensors.
            With `validation_data`, anything that `fit` takes.
        y: Targets, as `x`. Defaults to `None`.
        sample_weight: Weights of the samples, in training and validation. Defaults to `None`.
        cv: Integer, at least 2: number of shuffled folds, stratified if `y` is classes (integers, strings or
            one-hot); or what scikit-learn takes as `cv`: one of its splitters, or pairs of rows for
            training and rows for validation. Defaults to `5`.
        validation_data: Tuple `(x, y)` or `(x, y, sample_weight)`, or a dataset: judges on it instead of
            folds. Defaults to `None`.
        monitor: String, `"val_loss"` or the name of a metric with `"val_"` before it, taken after the
            last epoch. `"val_loss"` leaves out the penalty of regularizers, which would always
            count against weight decay. Defaults to `"val_loss"`.
        max_lr: Float above 0, the highest learning rate of the cycles. Defaults to `None`: what a range test
            on the training data of the first fold suggests.
        epochs: Integer, at least 1: those of each training. Defaults to `10`.
        batch_size: Integer, at least 1, for arrays. Defaults to `32`.
        seed: Integer: of the folds, and fold `n` is trained with `seed + n`. Defaults to `0`.
        one_cycle: Dict of other arguments of `OneCycle`. Defaults to `None`.
        **fit_arguments: Other arguments of `fit`.

    Returns:
        Float array of shape `(folds,)`. A fold whose loss became NaN or infinite is NaN; so are those after
            it, which are not trained.

    Raises:
        ImportError: If scikit-learn is not installed.
        TypeError: If an argument is of the wrong type, or `build` returns no compiled model.
        ValueError: If an argument is out of its range, the arrays cannot be split, or the range test
            suggests no learning rate.

    References:

    - [Smith, 2018, sections 4.4 and 5](https://arxiv.org/abs/1803.09820)
    """
    return CrossValidation(**locals()).score()


@dataclass
class CrossValidation:
    """A setting and the data that judge it; the fields are the arguments of `cross_val_score`."""

    build: Callable[[], keras.Model]
    x: Any
    y: Any
    sample_weight: Any
    cv: Any
    validation_data: Any
    monitor: str
    max_lr: float | None
    epochs: int
    batch_size: int
    seed: int
    one_cycle: Mapping[str, Any] | None
    fit_arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_int("epochs", self.epochs)
        check_int("batch_size", self.batch_size)
        # Raises what it would in training.
        OneCycle(1.0 if self.max_lr is None else self.max_lr, **(self.one_cycle or {}))
        inspect.signature(keras.Model.fit).bind_partial(**self.fit_arguments)
        self.data: Data = (self.x, self.y, self.sample_weight)
        if self.validation_data is None:
            self.data = tuple(_folds.check_arrays(part) for part in self.data)
            self.cv = _folds.split(self.data, self.cv, self.seed)

    def fold(self, number: int) -> tuple[Data, Data]:
        """Returns the training data and the validation data of a fold."""
        if self.validation_data is None:
            train, validation = self.cv[number]
            return take(self.data, train), take(self.data, validation)
        given = self.validation_data
        return self.data, given if isinstance(given, tuple) else (given,)

    def score(self) -> np.ndarray:
        """Trains on each fold and returns the monitored value of each."""
        setting = self.with_max_lr()
        values = np.full(len(self.cv) if self.validation_data is None else 1, np.nan)
        for number in range(len(values)):
            train, validation = self.fold(number)
            model = setting.fit(train, self.seed + number)
            value = self.evaluate(model, validation)
            if not np.isfinite([value, *model.history.history["loss"]]).all():
                break
            values[number] = value
        return values

    def with_max_lr(self) -> "CrossValidation":
        """Returns this with what a range test on the first fold suggests, where no `max_lr` is given."""
        if self.max_lr is not None:
            return self
        train, _ = self.fold(0)
        arguments = {
            **self.fit_arguments,
            **self._of_arrays(train),
            "verbose": 0,
            "callbacks": None,
        }
        result = lr_find(self.model(self.seed), *train[:2], **arguments)
        return replace(self, max_lr=result.suggest())

    def model(self, seed: int) -> keras.Model:
        """Builds the model."""
        keras.utils.set_random_seed(seed)
        return check_compiled("build(...)", self.build())

    def fit(self, train: Data, seed: int) -> keras.Model:
        """Builds the model and trains it with one cycle."""
        model = self.model(seed)
        arguments = {"verbose": 0, **self.fit_arguments, **self._of_arrays(train)}
        callbacks = [
            OneCycle(cast(float, self.max_lr), **(self.one_cycle or {})),
            keras.callbacks.TerminateOnNaN(),
            *keras.tree.flatten(arguments.pop("callbacks", None) or []),
        ]
        model.fit(*train[:2], epochs=self.epochs, callbacks=callbacks, **arguments)
        return model

    def evaluate(self, model: keras.Model, data: Data) -> float:
        """Returns the monitored value; a loss is that of the data alone, without regularizers."""
        logs = model.evaluate(*data[:2], verbose=0, return_dict=True, **self._of_arrays(data))
        name = self.monitor.removeprefix("val_")
        if np.ndim(logs.get(name, [])):
            known = [f"val_{key}" for key, value in sorted(logs.items()) if not np.ndim(value)]
            raise ValueError(
                f"`monitor` must be one of {', '.join(known)}, which the model has. "
                f"Received: monitor={self.monitor!r}"
            )
        return float(logs[name]) - (penalty(model) if name == "loss" else 0.0)

    def check_model(self) -> None:
        """Raises an error if the model cannot be built, or has no such metric."""
        model = self.model(self.seed)
        if self.monitor != "val_loss" and self.validation_data is None:
            self.evaluate(model, take(self.data, np.arange(2)))

    def _of_arrays(self, data: Data) -> dict[str, Any]:
        """Returns the arguments of `fit` and `evaluate` that a dataset has no use for."""
        arguments: dict[str, Any] = {}
        if len(data) > 2 and data[2] is not None:
            arguments["sample_weight"] = data[2]
        if all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(data[0])):
            arguments["batch_size"] = self.batch_size
        return arguments
