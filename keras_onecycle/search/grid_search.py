"""A search over a grid: an Optuna study in which every setting is judged by `cross_val_score`."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_onecycle._optional_imports import require
from keras_onecycle.one_cycle import OneCycle
from keras_onecycle.search.cross_validation import CrossValidation, cross_val_score
from keras_onecycle.search.result import SearchResult, Setting

if TYPE_CHECKING:
    import optuna

# Parameters of a grid that are for the training, where `build` has no argument of that name.
_TRAINING = ("max_lr", "epochs", "batch_size")
_CYCLE = tuple(
    n for n in inspect.signature(OneCycle).parameters if n not in ("max_lr", "total_steps")
)
# What a study or a trial keeps in its user attributes.
_SEARCH, _MAX_LR, _VALUES, _FAILURE = "keras_onecycle", "max_lr", "values", "failure"


class _SettingFailedError(Exception):
    """What `build` or training raised. An error of the storage is not one, and ends the search."""


def grid_search(
    build: Callable[..., keras.Model],
    grid: Mapping[str, Sequence[Any]],
    x: Any,
    y: Any = None,
    *,
    monitor: str = "val_loss",
    direction: str | None = None,
    max_lr: float | str | None = None,
    storage: "str | optuna.storages.BaseStorage | None" = None,
    study_name: str = "grid_search",
    **arguments: Any,
) -> SearchResult:
    """Judges every setting of a grid with one short cycle on each fold, and finds the best.

    List the default of each parameter first: a setting that is better than the first one by less than the
    spread does not replace it (see `SearchResult`).

    It is an Optuna study with a `GridSampler`. With a `storage`, the same call continues after an
    interruption, a finished search is only read, and several processes that make the same call share the
    work. For another sampler, or a pruner, hand `cross_val_score` to Optuna.

    Example:

    >>> x = np.random.rand(60, 4)
    >>> def build(weight_decay):
    ...     l2 = keras.regularizers.L2(weight_decay / 2)
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, kernel_regularizer=l2)])
    ...     model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    ...     return model
    >>> result = keras_onecycle.search.grid_search(
    ...     build, {"weight_decay": [1e-3, 0.0]}, x, x.sum(axis=1), cv=2, epochs=1, max_lr=0.1
    ... )
    >>> len(result.settings), list(result.best.params)
    (2, ['weight_decay'])

    Args:
        build: Function of the parameters that returns a compiled `keras.Model`. Global seeds are set
            before each call.
        grid: Dict of lists of values (numbers, strings, booleans, `None`) by the name of the parameter: an
            argument of `build`, or `max_lr`, `epochs`, `batch_size`, or another argument of `OneCycle`.
        x: As for `cross_val_score`.
        y: As for `cross_val_score`. Defaults to `None`.
        monitor: String, `"val_loss"` or the name of a metric with `"val_"` before it. Defaults to
            `"val_loss"`, without the penalty of regularizers.
        direction: `"minimize"` or `"maximize"`. Defaults to `None`, which is for `"val_loss"` alone.
        max_lr: Float above 0, or `"each"` for a range test of each setting. Range tests are noisy, so
            such a search compares learning rates as much as settings. Defaults to `None`: one range test,
            of the first setting, for all.
        storage: What `optuna.create_study` takes: the URL of a database, as `"sqlite:///search.db"` or
            `"postgresql://user@host/name"`, or one of Optuna's storages. Defaults to `None`: in memory.
        study_name: String, the name of the study in the storage. A search with another grid, other
            arguments or other arrays needs another name. Neither models nor functions nor datasets are
            compared. Defaults to `"grid_search"`.
        **arguments: Other arguments of `cross_val_score`, among them those of `fit`.

    Returns:
        A `SearchResult`. It lists a setting whose loss became NaN or infinite as diverged, and one whose
            `build` or training raised an error as failed.

    Raises:
        ImportError: If Optuna or scikit-learn is not installed.
        RuntimeError: If every setting failed.
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range, a parameter of the grid is unknown, the first setting
            cannot be built, or the study in the storage belongs to another search.

    References:

    - [Smith, 2018, sections 4.4 and 5](https://arxiv.org/abs/1803.09820)
    """
    optuna = require("optuna", "search")
    values = _values_of(grid)
    settings = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
    if direction is None:
        if monitor != "val_loss":
            raise ValueError(
                "`direction` must be 'minimize' or 'maximize' for a metric. "
                f"Received: monitor={monitor!r}, direction=None"
            )
        direction = "minimize"
    arguments |= {"monitor": monitor, "max_lr": None if max_lr == "each" else max_lr}
    bound = inspect.signature(cross_val_score).bind(build, x, y, **arguments)
    bound.apply_defaults()
    base = CrossValidation(**bound.arguments)
    default = _judging(base, settings[0])
    default.check_model()

    sampler = optuna.samplers.GridSampler(values)
    study = optuna.create_study(
        storage=storage,
        study_name=study_name,
        sampler=sampler,
        direction=direction,
        load_if_exists=True,
    )
    if storage is not None:
        _check_same_search(study, base, grid=values, direction=direction, max_lr=max_lr)
    if default.max_lr is None and max_lr is None:
        if _MAX_LR not in study.user_attrs:
            study.set_user_attr(_MAX_LR, default.with_max_lr().max_lr)
        base = replace(base, max_lr=study.user_attrs[_MAX_LR])

    def judge(trial: Any) -> float:
        params = {name: trial.suggest_categorical(name, of) for name, of in values.items()}
        try:
            judging = _judging(base, params).with_max_lr()
            scores = judging.score()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            trial.set_user_attr(_FAILURE, f"failed: {reason}")
            raise _SettingFailedError(reason) from error
        trial.set_user_attr(_MAX_LR, judging.max_lr)
        trial.set_user_attr(_VALUES, scores[np.isfinite(scores)].tolist())
        if not np.isfinite(scores).all():
            trial.set_user_attr(_FAILURE, "diverged: the loss is no longer a number")
        return scores.mean()

    if not sampler.is_exhausted(study):
        study.optimize(judge, catch=(_SettingFailedError,))
    # For the sampler, what was interrupted is done; here it is not.
    while missing := [params for params in settings if _finished(study, params) is None]:
        study.enqueue_trial(missing[0])
        study.optimize(judge, n_trials=1, catch=(_SettingFailedError,))
    judged = [_setting(params, _finished(study, params)) for params in settings]
    if all((setting.failure or "").startswith("failed") for setting in judged):
        raise RuntimeError(
            f"Every setting {judged[0].failure}. The study {study_name!r} has kept that: to train them again "
            "with a storage, pass another `study_name`."
        )
    return SearchResult(judged, monitor, direction, partial(_refit, base))


def _values_of(grid: Any) -> dict[str, list[Any]]:
    """Returns the values of each parameter, as a database keeps them."""
    require("sklearn.model_selection", "search").ParameterGrid(grid)  # Raises where it is no grid.
    values_of = {
        name: [value.item() if isinstance(value, np.generic) else value for value in values]
        for name, values in grid.items()
    }
    for name, values in values_of.items():
        if not all(value is None or isinstance(value, (bool, int, float, str)) for value in values):
            raise ValueError(
                "The values of `grid` must be numbers, strings, booleans or None. Let `build` make more of "
                f"them. Received: grid={{{name!r}: {values!r}}}"
            )
    return values_of


def _judging(base: CrossValidation, params: Mapping[str, Any]) -> CrossValidation:
    """Returns how a setting is judged: each parameter is for `build` if it takes it, or for the training."""
    signature = inspect.signature(base.build)
    of_training = {
        name: value
        for name, value in params.items()
        if name in (*_TRAINING, *_CYCLE) and name not in signature.parameters
    }
    of_build = {name: value for name, value in params.items() if name not in of_training}
    signature.bind(**of_build)  # Raises what the call of `build` would.
    of_cycle = {name: of_training.pop(name) for name in _CYCLE if name in of_training}
    return replace(
        base,
        build=partial(base.build, **of_build),
        one_cycle={**(base.one_cycle or {}), **of_cycle},
        **of_training,
    )


def _check_same_search(study: "optuna.Study", base: CrossValidation, **arguments: Any) -> None:
    """Raises an error if the study in the storage is that of another search."""
    names = ("monitor", "epochs", "batch_size", "seed", "one_cycle", "fit_arguments")
    arguments |= {name: getattr(base, name) for name in names}
    leaves = keras.tree.flatten((base.data, base.cv, base.validation_data))
    arrays = [np.asarray(leaf) for leaf in leaves if hasattr(leaf, "shape")]
    arguments["data"] = require("joblib", "search").hash(arrays)
    # Of an object, such as a callback, the class.
    search = json.loads(json.dumps(arguments, default=lambda value: type(value).__qualname__))
    kept = study.user_attrs.get(_SEARCH)
    if kept is None and not study.trials:
        study.set_user_attr(_SEARCH, kept := search)
    different = [name for name in search if (kept or {}).get(name) != search[name]]
    if different:
        raise ValueError(
            f"The study {study.study_name!r} in the storage belongs to another search, which differs in "
            f"{', '.join(different)}. Pass another `study_name` or another `storage`. "
            f"Received: study_name={study.study_name!r}"
        )


def _finished(study: "optuna.Study", params: dict[str, Any]) -> "optuna.trial.FrozenTrial | None":
    """Returns the first trial that is done with a setting, one that has a value where there is one."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.params == params]
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    # A trial that failed without a reason was interrupted.
    failed = [t for t in trials if t.state.name == "FAIL" and _FAILURE in t.user_attrs]
    return next(iter(complete + failed), None)


def _setting(params: dict[str, Any], trial: Any) -> Setting:
    told = trial.user_attrs
    return Setting(params, tuple(told.get(_VALUES, ())), told.get(_MAX_LR), told.get(_FAILURE))


def _refit(base: CrossValidation, setting: Setting, data: tuple[Any, ...]) -> keras.Model:
    judging = _judging(base, setting.params)
    return replace(judging, max_lr=setting.max_lr).fit(data or judging.data, judging.seed)
