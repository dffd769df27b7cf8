"""A cross-validated search over weight decay, dropout and whatever else a model is built from."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np

from keras_onecycle._arguments import check_int, check_learning_rate
from keras_onecycle._extras import require
from keras_onecycle._keras.description import describe
from keras_onecycle.one_cycle import OneCycle
from keras_onecycle.range_tests.learning_rate import LRFinder
from keras_onecycle.search._folds import Folds
from keras_onecycle.search._identity import as_json
from keras_onecycle.search._study import ERROR, SharedStudy
from keras_onecycle.search._training import CrossValidation, Outcome, check_parameters, direction
from keras_onecycle.search.result import SearchResult, Setting
from keras_onecycle.suggestion import SuggestionMethod

if TYPE_CHECKING:
    import optuna

_VALUES = (type(None), bool, int, float, str)

Found = TypeVar("Found")


def grid_search(
    build: Callable[..., keras.Model],
    grid: Mapping[str, Any],
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    folds: int = 5,
    stratify: bool | None = None,
    validation_data: Any = None,
    monitor: str = "val_loss",
    mode: str = "auto",
    max_lr: float | str | None = None,
    epochs: int = 10,
    batch_size: int | None = 32,
    seed: int = 0,
    one_cycle: Mapping[str, Any] | None = None,
    range_test: Mapping[str, Any] | None = None,
    suggest: str | SuggestionMethod = "auto",
    sampler: "str | optuna.samplers.BaseSampler" = "grid",
    num_trials: int | None = None,
    pruner: "optuna.pruners.BasePruner | None" = None,
    storage: str | os.PathLike | None = None,
    study_name: str = "search",
    grace_period: int = 120,
    verbose: str | int = "auto",
    **fit_arguments: Any,
) -> SearchResult:
    """Trains every setting of a grid with one short cycle on each fold, and finds the best.

    Large learning rates regularize, so one cycle needs less weight decay and dropout; this search finds
    how much less. List the default of each parameter first: a setting that is better than the first one
    by less than the spread does not replace it (see `SearchResult`).

    The learning rate may be part of the grid, as `"lr_factor": [1, 1/3, 3]`, multiples of `max_lr`.

    A `storage` keeps the results in a database: after an interruption the same call continues, and a
    finished search is only read. Several processes, also on several machines, that make the same call share
    the work; each setting is trained once.

    Example:

    >>> x, y = np.random.rand(60, 4), np.arange(60) % 3
    >>> def build(weight_decay, units):
    ...     l2 = keras.regularizers.L2(weight_decay / 2)
    ...     model = keras.Sequential([
    ...         keras.Input((4,)),
    ...         keras.layers.Dense(units, "relu", kernel_regularizer=l2),
    ...         keras.layers.Dense(3),
    ...     ])
    ...     loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ...     model.compile(keras.optimizers.SGD(momentum=0.9), loss, metrics=["accuracy"])
    ...     return model
    >>> result = keras_onecycle.search.grid_search(
    ...     build, {"weight_decay": [1e-3, 0.0], "units": [8]}, x, y,
    ...     folds=2, epochs=1, max_lr=0.1, verbose=0,
    ... )
    >>> len(result.settings), sorted(result.best.params)
    (2, ['units', 'weight_decay'])

    Args:
        build: Function of the parameters that returns a compiled `keras.Model`. Global seeds are set
            before each call.
        grid: Dict of lists of values (numbers, strings, booleans, `None`) by the name of the parameter:
            an argument of `build`, or `lr_factor`, `batch_size`, `epochs`, or an argument of `OneCycle`.
            With a `sampler`, also Optuna's distributions.
        x: Array or nested arrays; with `validation_data`, anything that `fit` takes; or a function
            that takes the number of a fold and returns training and validation data, each a dataset or
            a tuple of arrays.
        y: Targets. Defaults to `None`.
        sample_weight: Weights of the samples. Defaults to `None`.
        folds: Integer, at least 2: number of folds. Each sample is validation data once. Defaults to `5`.
        stratify: Boolean, whether every fold has equal shares of the classes. Defaults to `None`: if
            `y` is classes, as integers or one-hot.
        validation_data: Tuple `(x, y)` or `(x, y, sample_weight)`, or a dataset: validates instead of
            folds. Defaults to `None`.
        monitor: String, `"val_loss"` or the name of a metric with `"val_"` before it, taken after the
            last epoch. `"val_loss"` leaves out the penalty of regularizers, which would always
            count against weight decay. Defaults to `"val_loss"`.
        mode: `"min"`, `"max"`, or `"auto"` to go by the name. Defaults to `"auto"`.
        max_lr: Float above 0, or `"each"` for a range test of each setting. Range tests are noisy, so
            such a search compares learning rates as much as settings. Defaults to `None`: one range test,
            of the first setting that can be built (with a `sampler`, of the first value or the lower end
            of each parameter), for the whole search.
        epochs: Integer, at least 1: those of each training. Defaults to `10`.
        batch_size: Integer, at least 1, for arrays. Defaults to `32`.
        seed: Integer: of the folds, and fold `n` of each setting is trained with `seed + n`. Defaults to `0`.
        one_cycle: Dict of arguments of `OneCycle`. Defaults to `None`.
        range_test: Dict of arguments of `lr_find`. Defaults to `None`.
        suggest: What `RangeTestResult.suggest` takes. Defaults to `"auto"`.
        sampler: `"grid"` for every combination, `"tpe"`, or one of Optuna's samplers. Defaults to `"grid"`.
        num_trials: Integer, at least 1: settings to draw. Required with a sampler, else `None`, the default.
        pruner: An Optuna pruner, asked after each epoch; the model is then evaluated after each epoch too.
            Defaults to `None`.
        storage: Path of an SQLite file, or a URL such as `"postgresql://user@host/name"`. Defaults to
            `None`: in memory, for this process alone.
        study_name: String, the name of the search in the storage. A search with other arguments, other
            arrays, another model or another `compile` needs another name. Datasets and the code of
            functions are not compared. Defaults to `"search"`.
        grace_period: Integer, at least 2: seconds without a heartbeat (there are four in this time)
            after which another worker trains the setting again. Defaults to `120`.
        verbose: 0 for silence; 1, 2 or `"auto"` for a bar that counts settings. Defaults to `"auto"`.
        **fit_arguments: Other arguments of `fit`.

    Returns:
        A `SearchResult`. It lists a setting whose loss became NaN or infinite as diverged, and one whose
            `build` or training raised an error as failed.

    Raises:
        ImportError: If Optuna, scikit-learn or the driver of the database is not installed.
        RuntimeError: If every setting failed. The same call then starts over.
        TypeError: If an argument is of the wrong type.
        ValueError: If the grid is empty, a parameter is unknown, the folds are too many or too few for
            the data, the range test suggests no learning rate, or the storage cannot be reached or
            belongs to another search.

    References:

    - [Smith, 2018, sections 4.4 and 5](https://arxiv.org/abs/1803.09820)
    """
    settings, distributions = _settings(grid, sampler)
    check_parameters(build, list(grid))
    study_direction = direction(monitor, mode)
    check_int("epochs", epochs)
    if batch_size is not None:
        check_int("batch_size", batch_size)
    if max_lr not in (None, "each"):
        check_learning_rate("max_lr", max_lr)
    check_int("grace_period", grace_period, 2)
    _check_fit_arguments(fit_arguments)
    # What these raise for wrong arguments is what they would raise for the user.
    OneCycle(max_lr=1.0, **(one_cycle or {}))
    LRFinder(**{k: v for k, v in (range_test or {}).items() if k in _parameters(LRFinder)})
    if settings is None:
        num_settings = check_int("num_trials", num_trials)
    elif num_trials is not None:
        raise ValueError(
            "`num_trials` is for a sampler; `sampler='grid'` trains every combination. "
            f"Received: num_trials={num_trials!r}, sampler={sampler!r}"
        )
    else:
        num_settings = len(settings)
    data = Folds(
        x,
        y,
        sample_weight,
        folds=folds,
        validation_data=validation_data,
        stratify=stratify,
        seed=seed,
    )
    training = CrossValidation(
        build=build,
        folds=data,
        monitor=monitor,
        max_lr=max_lr,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        cycle=one_cycle or {},
        range_test=range_test or {},
        suggest=suggest,
        fit_arguments=fit_arguments,
    )
    first = settings or [{name: _first(kind) for name, kind in distributions.items()}]
    model = _of_first_that_works(lambda params: training.model(training.plan(params), seed), first)
    identity = {
        "grid": {name: str(kind) for name, kind in distributions.items()},
        "data": data.digest(),
        "folds": data.number,
        "stratify": stratify,
        "monitor": monitor,
        "mode": study_direction,
        "max_lr": max_lr,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "one_cycle": as_json(one_cycle),
        "range_test": as_json(range_test),
        "suggest": as_json(suggest),
        "sampler": as_json(sampler),
        "num_trials": num_settings,
        "pruner": as_json(pruner),
        **as_json(fit_arguments),
        **describe(model),
    }
    study = SharedStudy(
        storage,
        study_name,
        direction=study_direction,
        identity=identity,
        distributions=distributions,
        settings=settings,
        num_settings=num_settings,
        sampler=_sampler(sampler),
        pruner=pruner,
        grace_period=grace_period,
    )
    if not study.is_done():
        training.check_monitor(model)
        if max_lr is None and "max_lr" not in grid:
            training.max_lr = study.agreed("max_lr", partial(_suggested_lr, training, first))
    bar = keras.utils.Progbar(num_settings, verbose=int(bool(verbose)), unit_name="setting")
    study.work(
        partial(_evaluate, training, pruner is not None),
        lambda done: bar.update(done, finalize=done == num_settings),
    )
    trials = study.finished()
    if all(ERROR in trial.user_attrs for trial in trials):
        raise RuntimeError(
            f"Every setting of the search failed; the first one with {trials[0].user_attrs[ERROR]}"
        )
    return SearchResult(
        [_setting(trial, list(grid)) for trial in trials],
        monitor,
        study_direction,
        partial(_train, training),
    )


def _of_first_that_works(
    function: Callable[[dict[str, Any]], Found], settings: list[dict[str, Any]]
) -> Found:
    """Returns what `function` makes of the first setting that it raises no error for."""
    errors = []
    for params in settings:
        try:
            return function(params)
        except Exception as error:
            errors.append(error)
    raise errors[0]


def _suggested_lr(training: CrossValidation, settings: list[dict[str, Any]]) -> float:
    result = _of_first_that_works(training.range_test_of, settings)
    try:
        return result.suggest(training.suggest)
    except ValueError as error:
        raise ValueError(
            f"The range test of the first setting suggests no learning rate: {error} Change `range_test`, "
            "or pass a `max_lr`. Received: max_lr=None"
        ) from error


def _evaluate(
    training: CrossValidation, pruned: bool, trial: "optuna.Trial", params: dict[str, Any]
) -> float:
    """Trains a setting on each fold and writes what came out into the trial."""
    optuna = require("optuna", "search")

    def report(epochs: int, value: float) -> None:
        trial.report(value, epochs)
        if trial.should_prune():
            raise optuna.TrialPruned

    outcome = Outcome()
    try:
        training.run(params, outcome, report if pruned else None)
    finally:
        # As strings: not every database has a NaN in its JSON.
        trial.set_user_attr("values", [repr(value) for value in outcome.values])
        trial.set_user_attr("max_lr", outcome.max_lr)
        trial.set_user_attr("failure", outcome.failure)
    if outcome.failure:
        raise optuna.TrialPruned(outcome.failure)
    return sum(outcome.values) / len(outcome.values)


def _setting(trial: "optuna.trial.FrozenTrial", names: Sequence[str]) -> Setting:
    told = trial.user_attrs
    failure = told.get("failure") or (f"failed: {told[ERROR]}" if ERROR in told else None)
    if trial.state.name == "PRUNED" and failure is None:
        failure = "pruned"
    return Setting(
        params={name: trial.params[name] for name in names},
        values=tuple(float(value) for value in told.get("values", ())),
        max_lr=told.get("max_lr"),
        failure=failure,
    )


def _train(
    training: CrossValidation, params: dict[str, Any], max_lr: float, data: tuple[Any, ...]
) -> keras.Model:
    whole = data or training.folds.whole()
    if whole is None:
        raise ValueError(
            "The search had a function instead of data. Pass the data to train on: "
            "`result.refit(x, y)`. Received: no data"
        )
    return training.train(training.plan(params), max_lr, whole, training.seed)


def _settings(grid: Any, sampler: Any) -> tuple[list[dict[str, Any]] | None, dict[str, Any]]:
    """Returns every setting, or None where a sampler draws them, and Optuna's distributions."""
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(
            "`grid` must be a dict with a list of values for each parameter, and have at least one. "
            f"Received: grid={grid!r}"
        )
    optuna = require("optuna", "search")
    by_sampler = sampler != "grid"
    if by_sampler and sampler != "tpe" and not isinstance(sampler, optuna.samplers.BaseSampler):
        raise ValueError(
            "`sampler` must be 'grid', 'tpe' or one of Optuna's samplers. "
            f"Received: sampler={sampler!r}"
        )
    distributions = {
        name: values
        if by_sampler and isinstance(values, optuna.distributions.BaseDistribution)
        else optuna.distributions.CategoricalDistribution(_values(name, values))
        for name, values in grid.items()
    }
    if by_sampler:
        return None, distributions
    choices = [kind.choices for kind in distributions.values()]
    return [dict(zip(grid, values, strict=True)) for values in product(*choices)], distributions


def _values(name: str, values: Any) -> list[Any]:
    """Returns the values of a parameter, as a database keeps them."""
    received = f"Received: grid={{{name!r}: {values!r}}}"
    if isinstance(values, np.ndarray):
        values = list(values)
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence) or not values:
        raise ValueError(
            "`grid` must have a list of at least one value for each parameter; with a `sampler` also one "
            f"of Optuna's distributions. {received}"
        )
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    if not all(isinstance(value, _VALUES) for value in plain):
        raise TypeError(
            "The values of `grid` must be numbers, strings, booleans or None, which a database keeps; let "
            f"`build` make more of them. {received}"
        )
    if len(set(plain)) != len(plain):
        raise ValueError(f"The values of `grid` must differ. {received}")
    return plain


def _first(distribution: Any) -> Any:
    choices = getattr(distribution, "choices", None)
    return distribution.low if choices is None else choices[0]


def _sampler(sampler: Any) -> Any:
    optuna = require("optuna", "search")
    if sampler == "grid":
        # Every setting is enqueued; nothing is left to draw.
        return optuna.samplers.RandomSampler()
    # Unseeded: workers with one seed would draw the same.
    return optuna.samplers.TPESampler() if sampler == "tpe" else sampler


def _check_fit_arguments(fit_arguments: Mapping[str, Any]) -> None:
    known = _parameters(keras.Model.fit)
    for name, value in fit_arguments.items():
        if name not in known:
            raise TypeError(f"`fit` has no argument {name!r}. Received: {name}={value!r}")
        if name in ("validation_split", "validation_freq", "initial_epoch"):
            raise ValueError(
                f"`{name}` is not for a search, which validates on `folds` or `validation_data` after "
                f"the last epoch. Received: {name}={value!r}"
            )


def _parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)
