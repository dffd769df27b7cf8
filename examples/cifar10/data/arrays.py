"""CIFAR as NumPy arrays, from `.npz` parts or from a folder of `tensorflow_datasets`."""

import os
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from examples.cifar10.data.statistics import IMAGE_SHAPE, STATISTICS
from keras_onecycle._arguments import check_bool, check_choice, check_int

Arrays = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_arrays(
    name: str = "cifar10",
    data_dir: str | os.PathLike | None = None,
    num_train: int | None = None,
    *,
    download: bool = False,
) -> Arrays:
    """Loads CIFAR-10 or CIFAR-100 as NumPy arrays, as `keras.datasets` does.

    The folder holds either `.npz` parts, which need nothing but NumPy, or what `tensorflow_datasets`
    prepares. Where it holds both, the parts are read. A part is a file named `cifar10.npz`,
    `cifar10-0.npz` or the like, with arrays `x_train` `(n, 32, 32, 3)` and `x_test`, both uint8, and
    `y_train` `(n,)` and `y_test`, integers. Parts are joined in the order of their names.

    Example:

    >>> import tempfile
    >>> x, y = np.zeros((40, 32, 32, 3), "uint8"), np.arange(40) % 10
    >>> folder = tempfile.TemporaryDirectory()
    >>> np.savez(f"{folder.name}/cifar10.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    >>> train, test = data.load_arrays("cifar10", folder.name, num_train=20)
    >>> train[0].shape, train[1].shape, test[0].shape
    ((20, 32, 32, 3), (20,), (40, 32, 32, 3))

    Args:
        name: `"cifar10"`, or `"cifar100"` with its fine labels. Defaults to `"cifar10"`.
        data_dir: Path of the folder. Defaults to `None`: the environment variable `TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`.
        num_train: Integer, at least 1: training images to keep, balanced by class. They are always
            the same, the first of each class, in their order. Defaults to `None`: all.
        download: Boolean. If `True`, `tensorflow_datasets` downloads and prepares what is not there.
            Defaults to `False`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 images of shape `(n, 32, 32, 3)` and int32 labels
        of shape `(n,)`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range, or a file is torn or holds something else.
        FileNotFoundError: If the data is not in the folder.
        ImportError: If the folder is one of `tensorflow_datasets`, and that is not installed.
    """
    check_arguments(name, data_dir, num_train, download)
    folder = _folder(data_dir)
    # `cifar10*` would find parts of CIFAR-100.
    named = re.compile(rf"{name}(?!\d).*\.npz")
    parts = [path for path in sorted(folder.glob("*.npz")) if named.fullmatch(path.name)]
    if parts:
        loaded = [_read_part(path, name) for path in parts]
        arrays = {key: np.concatenate([part[key] for part in loaded]) for key in _KEYS}
        _warn_unless_whole(arrays, name, folder, len(parts))
    elif download or (folder / name).is_dir():
        arrays = _read_tfds(folder, name, download)
    else:
        raise FileNotFoundError(_how_to_fill(folder, name))
    x_train, y_train, x_test, y_test = (arrays[key] for key in _KEYS)
    if num_train is not None:
        kept = _balanced(y_train, num_train)
        x_train, y_train = x_train[kept], y_train[kept]
    return (x_train, y_train), (x_test, y_test)


def check_arguments(name: Any, data_dir: Any, num_train: Any, download: Any) -> None:
    """Raises a `TypeError` or `ValueError` that names the argument, before anything is read."""
    check_choice("name", name, tuple(STATISTICS))
    if data_dir is not None and not isinstance(data_dir, str | os.PathLike):
        raise TypeError(
            f"`data_dir` must be a path. Received: data_dir={data_dir!r} of type {type(data_dir).__name__}"
        )
    if num_train is not None:
        check_int("num_train", num_train)
    check_bool("download", download)


def _folder(data_dir: str | os.PathLike | None) -> Path:
    if data_dir is None:
        data_dir = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(data_dir).expanduser().absolute()


def _how_to_fill(folder: Path, name: str) -> str:
    return (
        f"No {name} in the folder {folder}, and nothing is downloaded unasked. Either prepare it there, "
        f'where there is a network:\n  python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{folder}').download_and_prepare()\"\n"
        f"(or pass `download=True`), or copy `.npz` parts into it: {name}-0.npz and so on, each with "
        f"{', '.join(_KEYS)}. Another folder is named by `data_dir` or the environment variable "
        "TFDS_DATA_DIR."
    )


def _read_part(path: Path, name: str) -> dict[str, np.ndarray]:
    """Returns the arrays of one file, checked."""
    try:
        with np.load(path) as part:
            arrays = {key: part[key] for key in _KEYS}
    except KeyError as error:
        raise ValueError(
            f"A part of {name} holds {', '.join(_KEYS)}. {error}. Received: {path}"
        ) from error
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"The file is no whole `.npz` file; it may be torn. Copy it again. {error}. Received: {path}"
        ) from error
    num_classes = STATISTICS[name].num_classes
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if x.dtype != np.uint8 or x.shape[1:] != IMAGE_SHAPE:
            raise ValueError(
                f"`x_{split}` must be uint8 of shape (n, 32, 32, 3). "
                f"Received: {x.dtype} of shape {x.shape} in {path}"
            )
        # `keras.datasets` has labels of shape (n, 1).
        if y.dtype.kind not in "iu" or y.shape not in ((len(x),), (len(x), 1)):
            raise ValueError(
                f"`y_{split}` must be integers of shape ({len(x)},), one for each image. "
                f"Received: {y.dtype} of shape {y.shape} in {path}"
            )
        if len(y) and (y.min() < 0 or y.max() >= num_classes):
            raise ValueError(
                f"`y_{split}` must be classes of {name}, from 0 to {num_classes - 1}. "
                f"Received: {y.min()} to {y.max()} in {path}"
            )
        arrays[f"y_{split}"] = y.reshape(-1).astype("int32")
    return arrays


def _warn_unless_whole(arrays: dict[str, np.ndarray], name: str, folder: Path, parts: int) -> None:
    wanted = (STATISTICS[name].num_train, STATISTICS[name].num_test)
    found = (len(arrays["x_train"]), len(arrays["x_test"]))
    if found != wanted:
        warnings.warn(
            f"The {parts} `.npz` part(s) of {name} in {folder} hold {found[0]} training and {found[1]} "
            f"test images, where {name} has {wanted[0]} and {wanted[1]}. Is a part missing, or there twice?",
            stacklevel=3,
        )


def _read_tfds(folder: Path, name: str, download: bool) -> dict[str, np.ndarray]:
    """Returns the arrays that `tensorflow_datasets` has in the folder."""
    try:
        import tensorflow as tf  # Without it `tensorflow_datasets` fails later, and less clearly.
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"To read {name} as `tensorflow_datasets` keeps it in {folder}, run "
            "`pip install '.[tensorflow,cifar]'` in your clone; or put `.npz` parts in the folder, which "
            f"need no TensorFlow. ({error})"
        ) from error
    arrays = {}
    try:
        splits = tfds.load(name, data_dir=folder, download=download, batch_size=-1)
        for split in ("train", "test"):
            arrays[f"x_{split}"] = np.asarray(splits[split]["image"])
            arrays[f"y_{split}"] = np.asarray(splits[split]["label"]).astype("int32")
    except (AssertionError, KeyError, tf.errors.NotFoundError) as error:
        # What is raised where a version, its description, or one of its files is not there.
        raise FileNotFoundError(f"{_how_to_fill(folder, name)} ({error})") from error
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"A file of {name} in {folder} is torn. Remove the folder and prepare it again. ({error})"
        ) from error
    return arrays


def _balanced(labels: np.ndarray, number: int) -> np.ndarray:
    """Returns the places of the first images of each class, `number` in all, in their order."""
    if number > len(labels):
        raise ValueError(
            f"`num_train` must be at most {len(labels)}, the training images that there are. "
            f"Received: num_train={number}"
        )
    rank = np.empty(len(labels), "int64")
    for label in np.unique(labels):
        of_class = labels == label
        rank[of_class] = np.arange(of_class.sum())
    return np.sort(np.lexsort((labels, rank))[:number])
