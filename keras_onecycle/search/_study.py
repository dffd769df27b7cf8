"""An Optuna study that several workers may share, in which each setting is done once.

The settings wait in the storage as enqueued trials, which Optuna hands to one worker each. One rule
covers a new study, Ctrl-C and a worker that died: a setting without a trial that waits, runs or is done
is enqueued. A worker that died leaves its trial running; once its heartbeat has stopped for the grace
period, any worker fails that trial. Two workers may enqueue the same setting, so a worker that takes up
a trial first looks whether an earlier one of the same setting is alive or done; then its own is surplus.

Optuna's `RetryHeartbeatStaleTrialCallback` covers only the worker that died.
"""

import contextlib
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_onecycle._extras import require

if TYPE_CHECKING:
    import optuna

_IDENTITY = "keras_onecycle"
_SETTING = "setting"
# The number of the first trial that counts.
_FIRST = "first_trial"
ERROR = "error"
_LONGEST_ERROR = 2000
# What the present state of a setting is, by Optuna's names.
_DONE, _ALIVE = ("COMPLETE", "PRUNED"), ("RUNNING", "WAITING")

# Two workers that begin together may both make the tables of an empty database, and one fails.
_ATTEMPTS = 3
_PAUSE = 1.0

Evaluate = Callable[["optuna.Trial", dict[str, Any]], float]


class _SurplusError(Exception):
    """A trial whose setting another trial has."""


def url_of(storage: str | os.PathLike) -> str:
    """Returns the URL of a database; a path is that of an SQLite file."""
    if not isinstance(storage, (str, os.PathLike)) or not str(storage):
        raise TypeError(
            f"`storage` must be a path or the URL of a database. Received: storage={storage!r}"
        )
    if str(storage) in ("sqlite://", "sqlite:///:memory:"):
        raise ValueError(
            "`storage` must be a file or a server: a database in memory has no second worker. "
            f"Received: storage={storage!r}"
        )
    if "://" in str(storage):
        return str(storage)
    if Path(storage).is_dir() or not Path(storage).resolve().parent.is_dir():
        raise ValueError(
            "`storage` must be the path of a file, in a folder that exists, or the URL of a database. "
            f"Received: storage={storage!r}"
        )
    return f"sqlite:///{Path(storage)}"


class SharedStudy:
    """A study in memory or in a database.

    A study in which every setting ended in an error begins anew.
    """

    def __init__(
        self,
        storage: str | os.PathLike | None,
        study_name: str,
        *,
        direction: str,
        identity: Mapping[str, Any],
        distributions: Mapping[str, Any],
        settings: list[dict[str, Any]] | None,
        num_settings: int,
        sampler: Any = None,
        pruner: Any = None,
        grace_period: int = 120,
    ) -> None:
        self._optuna = require("optuna", "search")
        self._distributions = dict(distributions)
        self._settings = None if settings is None else dict(enumerate(settings))
        self._num_settings = num_settings
        self._grace_period = grace_period
        self._identity = dict(identity)
        database = None if storage is None else self._connect(url_of(storage))
        with _quiet(self._optuna):
            self._study = self._optuna.create_study(
                storage=database,
                study_name=study_name,
                direction=direction,
                sampler=sampler,
                pruner=pruner or self._optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
        num_trials = len(self._study.get_trials(deepcopy=False))
        errors = [ERROR in trial.user_attrs for trial in self._done().values()]
        if is_anew := len(errors) >= num_settings and all(errors):
            self._study.set_user_attr(_FIRST, num_trials)
        self._check_identity(storage, is_anew or not num_trials)

    def _connect(self, url: str) -> Any:
        sqlalchemy = require("sqlalchemy", "search")
        try:
            shown = sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
        except sqlalchemy.exc.ArgumentError as error:
            raise ValueError(
                "`storage` must be a path or the URL of a database, as "
                f"'postgresql://user@host/name'. Received: storage={url!r}"
            ) from error
        # A worker that finds the file locked waits.
        arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with _quiet(self._optuna):
                    return self._optuna.storages.RDBStorage(
                        url,
                        engine_kwargs={"pool_pre_ping": True, **arguments},
                        heartbeat_interval=max(1, self._grace_period // 4),
                        grace_period=self._grace_period,
                    )
            except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
                raise ImportError(
                    "The driver of this database is not installed: pip install "
                    "'keras-onecycle[postgresql]' or 'keras-onecycle[mysql]', and with the latter begin "
                    f"the URL with 'mysql+pymysql://'. Received: storage={shown!r}"
                ) from error
            except (
                sqlalchemy.exc.SQLAlchemyError,
                self._optuna.exceptions.OptunaError,
                RuntimeError,
            ) as error:
                if attempt == _ATTEMPTS:
                    raise ValueError(
                        "`storage` cannot be reached, or is no database of Optuna's. "
                        f"Received: storage={shown!r} ({str(error).splitlines()[0]})"
                    ) from error
                time.sleep(_PAUSE)
        raise AssertionError

    def _check_identity(self, storage: Any, is_new: bool) -> None:
        study, identity = self._study, self._identity
        kept = study.user_attrs.get(_IDENTITY)
        if is_new and kept != identity:
            study.set_user_attr(_IDENTITY, identity)
            kept = study.user_attrs[_IDENTITY]
        if kept == identity:
            return
        kept = kept or {}
        different = sorted(n for n in {*kept, *identity} if kept.get(n) != identity.get(n))
        raise ValueError(
            f"The study {study.study_name!r} in the storage belongs to another search, which differs in "
            f"{', '.join(different)}. Pass another `study_name` or another `storage`. "
            f"Received: study_name={study.study_name!r}, storage={str(storage)!r}"
        )

    def is_done(self) -> bool:
        """Whether every setting is done."""
        return len(self._done()) >= self._num_settings

    def agreed(self, name: str, find: Callable[[], float]) -> float:
        """Returns a number that the first worker found, for all of them."""

        def kept() -> list[float]:
            identity, number = self._study.user_attrs.get(name, (None, None))
            return [number] if identity == self._identity else []

        if not kept():
            number = find()
            # Unless another worker was quicker.
            if not kept():
                self._study.set_user_attr(name, [self._identity, number])
        return kept()[0]

    def work(self, evaluate: Evaluate, progress: Callable[[int], None]) -> None:
        """Does settings until all are done, by this worker or others.

        An error of `evaluate` is kept in the trial, and the setting is done.
        """
        trial_state = self._optuna.trial.TrialState
        while True:
            trials = self._trials()
            done = len(self._in_state(trials, *_DONE))
            progress(done)
            if done >= self._num_settings:
                return
            waiting = [t for t in trials if t.state == trial_state.WAITING]
            # Enqueued by another worker meanwhile, some may then be surplus.
            if not waiting and not self._enqueue_missing(trials):
                self._wait(trials)
                continue
            self._do_one(evaluate)

    def finished(self) -> list["optuna.trial.FrozenTrial"]:
        """Returns the trial of each setting that is done, in the order of the settings."""
        return [trial for _, trial in sorted(self._done().items())]

    def _trials(self) -> list["optuna.trial.FrozenTrial"]:
        first = self._study.user_attrs.get(_FIRST, 0)
        return [t for t in self._study.get_trials(deepcopy=False) if t.number >= first]

    def _done(self) -> dict[int, "optuna.trial.FrozenTrial"]:
        return self._in_state(self._trials(), *_DONE)

    def _in_state(self, trials: list[Any], *states: str) -> dict[int, Any]:
        return {
            trial.user_attrs[_SETTING]: trial
            for trial in reversed(trials)
            if trial.state.name in states and _SETTING in trial.user_attrs
        }

    def _enqueue_missing(self, trials: list[Any]) -> bool:
        """Enqueues what is neither done nor being done, and says whether there was any."""
        taken = self._in_state(trials, *_DONE, *_ALIVE)
        if self._settings is None:
            # What a worker that died had drawn; after that, what the sampler draws.
            failed = self._in_state(trials, "FAIL")
            drawn = {number: trial.params for number, trial in failed.items()}
            settings = {number: {} for number in range(self._num_settings)} | drawn
        else:
            settings = self._settings
        missing = {number: params for number, params in settings.items() if number not in taken}
        for number, params in missing.items():
            self._study.enqueue_trial(params, user_attrs={_SETTING: number})
        return bool(missing)

    def _do_one(self, evaluate: Evaluate) -> None:
        def objective(trial: "optuna.Trial") -> float:
            self._check_first(trial)
            trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
            params = self._suggest(trial)
            try:
                return evaluate(trial, params)
            except self._optuna.exceptions.OptunaError:  # Pruned, or what the storage raises.
                raise
            except Exception as error:
                trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}"[:_LONGEST_ERROR])
                # Not failed, which would be run again.
                raise self._optuna.TrialPruned from error

        try:
            with _quiet(self._optuna):
                self._study.optimize(
                    objective, n_trials=1, catch=(_SurplusError,), gc_after_trial=True
                )
        except (ValueError, AssertionError, self._optuna.exceptions.UpdateFinishedTrialError):
            # What Optuna raises, here and there, for a trial that was failed meanwhile.
            warnings.warn(
                f"This worker gave no sign of life for {self._grace_period} seconds, and its trial was "
                "given to another. What it has done is not counted.",
                stacklevel=2,
            )

    def _check_first(self, trial: "optuna.Trial") -> None:
        """Raises an error if the setting of the trial is done, or is that of an earlier trial."""
        setting = trial.user_attrs.get(_SETTING)
        # One without was made by Optuna when the last that waited was taken by another worker.
        surplus = setting is None
        for other in self._trials():
            if other.number != trial.number and other.user_attrs.get(_SETTING) == setting:
                earlier = other.state.name in _ALIVE and other.number < trial.number
                surplus = surplus or earlier or other.state.name in _DONE
        if surplus:
            raise _SurplusError

    def _suggest(self, trial: "optuna.Trial") -> dict[str, Any]:
        params = {}
        for name, kind in self._distributions.items():
            if isinstance(kind, self._optuna.distributions.CategoricalDistribution):
                params[name] = trial.suggest_categorical(name, kind.choices)
                continue
            is_int = isinstance(kind, self._optuna.distributions.IntDistribution)
            suggest = trial.suggest_int if is_int else trial.suggest_float
            params[name] = suggest(name, kind.low, kind.high, step=kind.step, log=kind.log)
        return params

    def _wait(self, trials: list[Any]) -> None:
        """Waits for what other workers do, and fails the trials of those that died."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            self._optuna.storages.fail_stale_trials(self._study)
        # One that died before its first sign of life is never stale for Optuna.
        limit = datetime.now() - timedelta(seconds=2 * self._grace_period)
        for trial in trials:
            begun = trial.state.name == "RUNNING" and "worker" not in trial.user_attrs
            if begun and trial.datetime_start < limit:
                with contextlib.suppress(ValueError):  # It has ended meanwhile.
                    self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        time.sleep(min(_PAUSE, self._grace_period / 2))


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Keeps Optuna from reporting each trial, and that heartbeats are experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
