"""Results as JSON files: written whole or not at all, and named where one is torn or foreign."""

import json
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")

_VERSION = 1


def write(path: str | os.PathLike, kind: str, content: dict[str, Any]) -> None:
    """Writes `content` as the file of a result of class `kind`."""
    # A link is followed, and stays.
    file = _check_path(path).resolve()
    whole = {"format": f"keras_onecycle.{kind}", "version": _VERSION, **content}
    text = json.dumps(whole, indent=1, allow_nan=False)
    # Of another name for each: two may write at the same time.
    partial = file.with_name(f"{uuid.uuid4().hex}.partial")
    try:
        with partial.open("x", encoding="utf-8") as stream:
            if file.exists():
                partial.chmod(stat.S_IMODE(file.stat().st_mode))
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike, kind: str, make: Callable[[dict[str, Any]], Result]) -> Result:
    """Returns what `make` makes of the content of a file that `write` wrote."""
    file = _check_path(path)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            "The file is no JSON that can be read; it may be torn. Run the range test again. "
            f"Received: path={path!r}"
        ) from error
    wanted = f"keras_onecycle.{kind}"
    if not isinstance(content, dict) or content.get("format") != wanted:
        raise ValueError(
            f"The file holds no range test: its `format` should be {wanted!r}. Received: path={path!r}"
        )
    if content.get("version") != _VERSION:
        raise ValueError(
            f"The file is of another version of the format than {_VERSION}. "
            f"Received: version={content.get('version')!r}, path={path!r}"
        )
    try:
        return make(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"The range test in the file is not whole: {error!r}. Received: path={path!r}"
        ) from error


def to_json(values: np.ndarray) -> list[Any]:
    """Returns an array, of any shape, as JSON can hold it."""
    # JSON has no NaN and no infinity; Python reads these strings back.
    return [
        to_json(value) if value.ndim else value.item() if np.isfinite(value) else str(value)
        for value in map(np.asarray, values)
    ]


def from_json(values: Any) -> np.ndarray:
    """Returns the array that `to_json` was given."""
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list of numbers")
    return np.array(values, dtype=float) if values else np.empty(0)


def _check_path(path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"`path` must be a string or a path. Received: path={path!r} of type {type(path).__name__}"
        )
    if Path(path).is_dir():
        raise ValueError(f"`path` must be that of a file. Received: path={path!r}, a directory")
    return Path(path)
