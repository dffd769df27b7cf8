"""The child process that tries one batch size.

usage: python -m keras_onecycle.search.batch_size_child FOLDER

It reads `trial.json`, `model.keras` and `batch.pickle` in FOLDER and writes `report.json`: the bytes that it
holds before it trains, then the seconds of the steps, or what is said about memory that ran out.
"""

import contextlib
import importlib
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import keras

from keras_onecycle._keras import backend
from keras_onecycle.search.batch_size_trial import describe, time_steps
from keras_onecycle.search.memory import data_limit, data_size


def main(folder: Path) -> None:
    """Tries the batch size and reports."""
    trial = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
    memory_limit = trial["memory_limit"]
    model = _load(folder / "model.keras", trial["modules"])
    held = None
    if sys.platform == "linux":
        # Should the kernel itself run out of memory, it takes this process first.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
        held = data_size()
    # From here on, dying is running out of memory.
    _report(folder, {"held": held})
    limit = contextlib.nullcontext() if memory_limit is None else data_limit(memory_limit)
    try:
        if memory_limit is not None and held > memory_limit:
            raise MemoryError("the limit is less than what the process holds before it trains")
        with limit, (folder / "batch.pickle").open("rb") as file:
            told = {"step_times": time_steps(model, *pickle.load(file), trial["steps"])}
    except Exception as error:
        if not backend.is_out_of_memory(error):
            raise
        told = {"out_of_memory": describe(error)}
    _report(folder, {"held": held, **told})
    # What ran out of memory may crash or hang on the regular way out.
    os._exit(0)


def _load(path: Path, modules: list[str]) -> keras.Model:
    for module in modules:
        # If it matters, Keras says what is missing.
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    # Lambda layers too: the file is a model that the user has.
    model = keras.saving.load_model(path, safe_mode=False)
    if not model.compiled:
        raise ValueError(
            "The model was saved without what it was compiled with: a model with a `compile` of its own "
            "needs `get_compile_config` and `compile_from_config`."
        )
    return model


def _report(folder: Path, told: dict[str, Any]) -> None:
    partial = folder / "report.partial"
    partial.write_text(json.dumps(told), encoding="utf-8")
    partial.replace(folder / "report.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
