"""Tries of batch sizes in child processes, which may die of it."""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_onecycle._keras import backend
from keras_onecycle.search.batch_size_trial import DoesNotFitError, Trial, take_rows
from keras_onecycle.search.memory import available_memory

# How a process ends whose native code gets no memory: it aborts, reads where nothing is, or the kernel
# kills it; the C library exits with 127 where a thread finds no room for its variables.
_DEATHS = {"SIGABRT", "SIGBUS", "SIGKILL", "SIGSEGV", "exit status 127"}

_ADVICE = (
    "`keras.saving.load_model` must be able to read it back, compiled: register classes and functions of "
    "your own with `@keras.saving.register_keras_serializable()`, in a module that a new process can "
    "import, not in the main script or a notebook. Or try in this process, with `in_process=True`."
)
_LONGEST_TEXT = 4000


@contextlib.contextmanager
def in_child_processes(
    model: keras.Model, x: Any, y: Any, steps: int, memory_limit: int | None
) -> Iterator[Trial]:
    """Gives the function that tries a batch size on a copy of the model, in a process of its own."""
    backend.sync(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            model.save(folder / "model.keras")
        except Exception as error:
            raise ValueError(
                f"The model cannot be saved for a child process. {_ADVICE} Received: model={model!r}"
            ) from error
        modules = _modules(folder / "model.keras")

        def run_under(limit: int | None) -> list[float]:
            trial = {"steps": steps, "memory_limit": limit, "modules": modules}
            (folder / "trial.json").write_text(json.dumps(trial), encoding="utf-8")
            return _run(folder, model)

        def run(batch_size: int) -> list[float]:
            with (folder / "batch.pickle").open("wb") as file:
                pickle.dump((take_rows(x, batch_size), take_rows(y, batch_size)), file)
            try:
                return run_under(memory_limit)
            except RuntimeError as error:
                # Of many libraries, some do not say that it is memory they lack: does more help?
                more = _more(memory_limit)
                if more is None:
                    raise
                with contextlib.suppress(DoesNotFitError):
                    run_under(more)
                reason = str(error).strip().splitlines()[-1]
            raise DoesNotFitError(f"{reason} (which does not happen with {more} bytes)")

        yield run


def _more(memory_limit: int | None) -> int | None:
    """Returns a limit well above `memory_limit` that the machine can give, if there is one."""
    if memory_limit is None:
        return None
    more = min(2 * memory_limit, available_memory())
    return more if more > 1.1 * memory_limit else None


def _modules(path: Path) -> list[str]:
    """Returns the modules of the registered classes and functions that a saved model needs."""
    with zipfile.ZipFile(path) as file:
        config = file.read("config.json").decode()
    registered = keras.saving.get_custom_objects()
    # A process of its own has another main script.
    return sorted(
        {object_.__module__ for name, object_ in registered.items() if json.dumps(name) in config}
        - {"__main__"}
    )


def _run(folder: Path, model: keras.Model) -> list[float]:
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    child = subprocess.run(
        [sys.executable, "-m", "keras_onecycle.search.batch_size_child", folder],
        env={
            **os.environ,
            "KERAS_BACKEND": keras.backend.backend(),
            "PYTHONPATH": os.pathsep.join(sys.path),
            # Where this process trains on the CPU beside an accelerator, so does the child.
            "CUDA_VISIBLE_DEVICES": "-1",
            "JAX_PLATFORMS": "cpu",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    # First of all what it told: one that ran out of memory may crash while it ends.
    told = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    if "step_times" in told:
        return told["step_times"]
    code = child.returncode
    end = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    ended = f"The process ended with {end}: {child.stderr[-_LONGEST_TEXT:]}"
    if not told:
        raise ValueError(
            f"The model cannot be loaded in a child process. {_ADVICE} {ended} Received: model={model!r}"
        )
    if "out_of_memory" not in told and end not in _DEATHS:
        raise RuntimeError(f"The model cannot be trained in a child process. {ended}")
    reason = told.get("out_of_memory", f"the process died with {end}")
    raise DoesNotFitError(f"{reason} (the process held {told['held']} bytes before it trained)")
