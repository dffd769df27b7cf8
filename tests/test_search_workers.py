"""Workers that share a search, and one that is killed: each setting is done once, none is lost."""

import itertools
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest

import postgresql
import search_worker
from keras_onecycle.search import SearchResult

WORKER = Path(search_worker.__file__)
SETTINGS = set(itertools.product(*search_worker.GRID.values()))

pytestmark = pytest.mark.any_backend


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[str]:
    """A server where there is one, else a file."""
    if postgresql.programs() is None:
        yield f"sqlite:///{tmp_path / 'search.db'}"
    else:
        with postgresql.server() as url:
            yield url


def start(storage: str, log: Path, workers: int, kill: int = 0) -> subprocess.Popen:
    command = [sys.executable, WORKER, storage, log, str(workers), str(kill)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """What one process comes to."""
    folder = tmp_path_factory.mktemp("alone")
    return search_worker.search(f"sqlite:///{folder / 'search.db'}", folder / "log")


def test_two_workers_and_one_is_killed(storage: str, alone: SearchResult, tmp_path: Path) -> None:
    log = tmp_path / "log"
    killed, other = start(storage, log, 2, kill=2), start(storage, log, 2)
    _, errors = other.communicate(timeout=300)
    assert other.returncode == 0, errors
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL

    study = optuna.load_study(study_name="search", storage=storage)
    done = Counter(
        (trial.params["units"], trial.params["dropout"])
        for trial in study.trials
        if trial.state.name == "COMPLETE"
    )
    assert done == Counter(SETTINGS)
    lines = [line.split() for line in log.read_text().splitlines()]
    begun = Counter((int(units), float(dropout)) for _, units, dropout in lines)
    of_killed = [(int(u), float(d)) for process, u, d in lines if int(process) == killed.pid]
    # What the killed worker had in hand was begun again, and nothing else.
    assert begun == Counter(SETTINGS) + Counter(of_killed[-1:])

    # The same call reads what is done, and it is what one process alone comes to.
    shared = search_worker.search(storage, log)
    assert len(log.read_text().splitlines()) == len(lines)
    for together, single in zip(shared.settings, alone.settings, strict=True):
        assert together.params == single.params
        np.testing.assert_allclose(together.values, single.values, rtol=1e-5)
