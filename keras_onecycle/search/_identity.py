"""What tells one search from another, as JSON that is the same in every process."""

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def digest(data: Any) -> str:
    """Returns what tells the arrays in `data` from other arrays."""
    sha = hashlib.sha256()
    for leaf in keras.tree.flatten(data):
        if hasattr(leaf, "shape"):
            values = np.ascontiguousarray(leaf)
            sha.update(f"{values.dtype}{values.shape}".encode())
            sha.update(values.data if values.size else b"")
    return sha.hexdigest()[:16]


def as_json(value: Any) -> Any:
    """Returns an argument as JSON can hold it.

    Of an object, such as a callback, these are its class and those arguments of the constructor that
    it keeps under their names; of a function its name.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(name): as_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    if hasattr(value, "shape"):
        return digest(value)
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    try:
        names = set(inspect.signature(type(value)).parameters)
    except ValueError:
        names = set()
    kept = {n: v for n, v in getattr(value, "__dict__", {}).items() if n in names}
    simple = {n: v for n, v in kept.items() if isinstance(v, (bool, int, float, str))}
    return {"class": type(value).__qualname__, **simple}
