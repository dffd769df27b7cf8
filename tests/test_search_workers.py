"""Searches that are killed: by SIGKILL alone, and one of two workers that share a database."""

import itertools
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest

import postgresql
import search_worker
from keras_onecycle.search import SearchResult

SETTINGS = set(itertools.product(*search_worker.GRID.values()))

pytestmark = pytest.mark.any_backend


def start(url: str, log: Path, workers: int, kill: int = 0) -> subprocess.Popen:
    command = [sys.executable, search_worker.__file__, url, log, str(workers), str(kill)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def begun(log: Path) -> list[tuple[int, tuple[int, float]]]:
    lines = [line.split() for line in log.read_text().splitlines()]
    return [(int(process), (int(units), float(rate))) for process, units, rate in lines]


def assert_complete(result: SearchResult) -> None:
    assert {tuple(setting.params.values()) for setting in result.settings} == SETTINGS
    for setting in result.settings:
        assert setting.values == pytest.approx([setting.params["units"]], abs=1e-5)


def test_after_sigkill_the_same_call_goes_on(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path / 'search.db'}", tmp_path / "log"
    killed = start(url, log, workers=1, kill=2)
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert_complete(search_worker.search(url, log))
    # What was in hand was begun again, and nothing else.
    settings = [setting for _, setting in begun(log)]
    assert Counter(settings) == Counter(SETTINGS) + Counter([settings[1]])


@pytest.mark.skipif(postgresql.programs() is None, reason="PostgreSQL is not installed")
def test_two_workers_and_one_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with postgresql.server() as url:
        storage = search_worker.shared(url)  # Two processes that make the tables at once, fail.
        killed, other = start(url, log, 2, kill=2), start(url, log, 2)
        _, errors = other.communicate(timeout=300)
        assert other.returncode == 0, errors
        killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL
        # Each worked; the other has done the setting that the killed one had in hand.
        of_killed = [setting for process, setting in begun(log) if process == killed.pid]
        of_other = [setting for process, setting in begun(log) if process == other.pid]
        assert len(of_killed) == 2
        assert set(of_killed[:1] + of_other) == SETTINGS
        # The same call only reads, and every setting is there.
        assert_complete(search_worker.search(storage, log))
        assert len(begun(log)) == len(of_killed) + len(of_other)
        trials = optuna.load_study(study_name="grid_search", storage=storage).trials
        retried = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number
        assert [trial.number for trial in trials if trial.state.name == "FAIL"] == [
            number for trial in trials if (number := retried(trial)) is not None
        ]
