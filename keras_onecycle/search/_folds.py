"""The data of a search: K folds, one fixed validation set, or what a function gives for a fold."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_onecycle._arguments import check_int
from keras_onecycle._extras import require
from keras_onecycle.search._identity import digest

Fold = tuple[tuple[Any, ...], tuple[Any, ...]]
"""Training data and validation data, each what `fit` takes as its first arguments."""


class Folds:
    """Training and validation data by the number of the fold."""

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        folds: int = 5,
        validation_data: Any = None,
        stratify: bool | None = None,
        seed: int = 0,
    ) -> None:
        self.function: Callable[[int], Any] | None = x if callable(x) else None
        self.validation_data = validation_data
        self.number = 1 if validation_data is not None else check_int("folds", folds, 2)
        self._splits: list[tuple[np.ndarray, np.ndarray]] = []
        if self.function is not None:
            for name, value in (("y", y), ("sample_weight", sample_weight)):
                if value is not None:
                    raise ValueError(
                        f"`{name}` must be None where `x` is a function, which returns it too. "
                        f"Received: {name} of type {type(value).__name__}"
                    )
            if validation_data is not None:
                raise ValueError(
                    "`validation_data` must be None where `x` is a function, which returns it too. "
                    f"Received: validation_data of type {type(validation_data).__name__}"
                )
            return
        self.data = tuple(part for part in (x, y, sample_weight))
        if validation_data is not None:
            return
        samples = self._samples()
        if self.number > samples:
            raise ValueError(
                f"`folds` must be at most the number of samples, {samples}. Received: folds={folds}"
            )
        self._splits = self._split(samples, stratify, seed)

    def _samples(self) -> int:
        lengths = set()
        for leaf in keras.tree.flatten(self.data):
            if leaf is None:
                continue
            if (
                not hasattr(leaf, "shape")
                or not hasattr(leaf, "__getitem__")
                or not len(leaf.shape)
            ):
                raise TypeError(
                    "`x` must be arrays, to be split into folds, or a function `x(fold)` that returns "
                    "training and validation data; with `validation_data`, what `fit` takes. "
                    f"Received: x of type {type(leaf).__name__}"
                )
            lengths.add(len(leaf))
        if len(lengths) != 1:
            raise ValueError(
                f"`x`, `y` and `sample_weight` must have equal lengths. Received: {sorted(lengths)}"
            )
        return lengths.pop()

    def _split(
        self, samples: int, stratify: bool | None, seed: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        selection = require("sklearn.model_selection", "search")
        classes = _classes(self.data[1])
        if stratify and classes is None:
            raise ValueError(
                "`stratify=True` needs one array of classes as `y`, integers or one-hot. "
                "Received: stratify=True"
            )
        if stratify is None:
            stratify = classes is not None
        if not stratify or classes is None:
            splitter = selection.KFold(self.number, shuffle=True, random_state=seed)
            return list(splitter.split(np.zeros(samples)))
        rarest = np.unique(classes, return_counts=True)[1].min()
        if self.number > rarest:
            raise ValueError(
                f"`folds` must be at most the number of samples in the rarest class, {rarest}, or pass "
                f"`stratify=False`. Received: folds={self.number}"
            )
        splitter = selection.StratifiedKFold(self.number, shuffle=True, random_state=seed)
        return list(splitter.split(np.zeros(samples), classes))

    def __iter__(self) -> Iterator[Fold]:
        return (self.fold(number) for number in range(self.number))

    def fold(self, number: int) -> Fold:
        """Returns training and validation data of a fold, each as a tuple."""
        if self.function is not None:
            pair = self.function(number)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(
                    "The function `x(fold)` must return a tuple of training and validation data. "
                    f"Received: {pair!r}"
                )
            return _as_tuple(pair[0]), _as_tuple(pair[1])
        if self.validation_data is not None:
            return self.data, _as_tuple(self.validation_data)
        train, validation = self._splits[number]
        return _rows(self.data, train), _rows(self.data, validation)

    def whole(self) -> tuple[Any, ...] | None:
        """Returns all training data, or None where only the function knows it."""
        return None if self.function is not None else self.data

    def digest(self) -> str | None:
        """Returns what tells this data from other data, where it is arrays."""
        return None if self.function is not None else digest((self.data, self.validation_data))


def _as_tuple(data: Any) -> tuple[Any, ...]:
    return data if isinstance(data, tuple) else (data,)


def _rows(data: Any, rows: np.ndarray) -> Any:
    return keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[rows], data)


def _classes(y: Any) -> np.ndarray | None:
    """Returns the class of each sample, or None where `y` is no such thing."""
    if not hasattr(y, "shape"):
        return None
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] > 1:
        one_hot = np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all()
        return values.argmax(axis=1) if one_hot else None
    values = values.reshape(len(values), -1)
    if values.shape[1] != 1 or values.dtype.kind not in "iubUSO":
        return None
    return values[:, 0]
