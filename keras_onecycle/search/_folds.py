"""The folds that scikit-learn makes of arrays, by the numbers of their rows."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import keras
import numpy as np

from keras_onecycle._arguments import check_int
from keras_onecycle._keras.data import has_rows, take
from keras_onecycle._optional_imports import require


def check_arrays(data: Any) -> Any:
    """Returns `data`, which must be arrays, alone or nested; a list of numbers becomes one."""
    leaves = keras.tree.flatten(data)
    if isinstance(data, (list, tuple)) and all(np.isscalar(leaf) for leaf in leaves):
        return np.asarray(data)
    for leaf in leaves:
        if leaf is not None and not has_rows(leaf):
            raise TypeError(
                "The data must be arrays of samples, or a dict, list or tuple of arrays. "
                f"Received: {leaf!r} of type {type(leaf).__name__}"
            )
    return data


def count_samples(arrays: Any) -> int:
    """Returns the number of rows, which every array has."""
    samples = {leaf.shape[0] for leaf in keras.tree.flatten(arrays) if leaf is not None}
    if len(samples) != 1 or 0 in samples:
        raise ValueError(
            "The arrays of the data must have as many samples each, at least one. "
            f"Received: arrays of {sorted(samples)} samples"
        )
    return int(samples.pop())


def split(
    arrays: tuple[Any, ...], cv: int | Iterable[tuple[np.ndarray, np.ndarray]], seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the rows for training and for validation of each fold.

    Args:
        arrays: Inputs, targets and sample weights, of which the latter two may be `None`.
        cv: What scikit-learn takes as `cv`; an integer makes shuffled folds, stratified for classes.
        seed: Integer, for the shuffling.
    """
    selection = require("sklearn.model_selection", "search")
    samples, classes = count_samples(arrays), _classes(arrays[1])
    if isinstance(cv, Integral):
        kind = selection.KFold if classes is None else selection.StratifiedKFold
        cv = kind(check_int("cv", cv, 2), shuffle=True, random_state=seed)
    targets = arrays[1] if classes is None else classes
    splits = list(selection.check_cv(cv).split(np.zeros(samples), targets))
    if not splits:
        raise ValueError(f"`cv` must give at least one fold. Received: cv={cv!r}")
    return splits


def _classes(y: Any) -> np.ndarray | None:
    """Returns the class of each sample where `y` is classes, as integers, strings or one-hot."""
    if not hasattr(y, "__array__"):
        return None
    y = np.asarray(take(y, slice(None)))
    if y.ndim == 2 and y.shape[1] > 1:
        one_hot = np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()
        return y.argmax(axis=1) if one_hot else None
    return y.ravel() if y.size == len(y) and y.dtype.kind in "iubUSO" else None
