"""What is done to data for `fit`: some rows are taken, a model is built, it is repeated, its workers end."""

import itertools
import math
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


def has_rows(array: Any) -> bool:
    """Whether `take` takes rows of it: a sparse or ragged tensor of a backend would become dense."""
    is_array = hasattr(array, "__array__") or hasattr(array, "tocsr")
    return is_array and len(getattr(array, "shape", ())) > 0


def take(data: Any, rows: np.ndarray | slice) -> Any:
    """Returns some rows, by their numbers, of each array in `data`."""

    def of(array: Any) -> Any:
        # Of pandas, an index would be that of labels.
        if hasattr(array, "iloc"):
            return array.iloc[rows]
        # One of SciPy's sparse matrices.
        if hasattr(array, "tocsr"):
            return array.tocsr()[rows]
        if keras.ops.is_tensor(array):
            # Of strings, `fit` takes no array of bytes.
            if keras.backend.standardize_dtype(array.dtype) == "string":
                return keras.ops.take(array, np.arange(len(array))[rows], axis=0)
            array = keras.ops.convert_to_numpy(array)
        return None if array is None else np.asarray(array)[rows]

    return keras.tree.map_structure(of, data)


def build_from(model: keras.Model, x: Any) -> Any:
    """Builds an unbuilt model without training it, and returns the data, with no batch of it lost."""
    if model.built:
        return x
    batch, x = _inputs(x)
    try:
        model(keras.tree.map_structure(_symbolic, batch))
    except Exception as error:
        raise ValueError(
            "The model is not built, and calling it on data of these shapes does not build it. Call it "
            "on a batch first; where it has no `call`, build its parts and set `model.built = True`. "
            f"Received: x of {keras.tree.map_structure(_symbolic, batch)!r}"
        ) from error
    return x


def _inputs(x: Any) -> tuple[Any, Any]:
    """Returns the inputs of a batch, or what has their shapes, and the data."""
    if hasattr(x, "element_spec"):
        spec = _first(x.element_spec)
        shapes = [getattr(leaf, "shape", None) for leaf in keras.tree.flatten(spec)]
        if all(getattr(shape, "rank", None) is not None for shape in shapes):
            return spec, x
        return _first(next(iter(x))), x
    if isinstance(x, keras.utils.PyDataset):
        return _first(x[0]), x
    if hasattr(x, "__next__"):
        batch = next(x)
        return _first(batch), _generate(batch, x)
    if not all(leaf is None or hasattr(leaf, "shape") for leaf in keras.tree.flatten(x)):
        # A `DataLoader`, or another iterable of batches.
        return _first(next(iter(x))), x
    return x, x


def _first(batch: Any) -> Any:
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _generate(batch: Any, rest: Iterator[Any]) -> Iterator[Any]:
    # A generator: Keras knows no other iterator.
    yield from itertools.chain([batch], rest)


def _symbolic(leaf: Any) -> Any:
    # An input that is left out: None, or in a `tf.data.Dataset` an empty `tf.experimental.Optional`.
    if leaf is None or hasattr(leaf, "has_value"):
        return None
    leaf = leaf if hasattr(leaf, "dtype") else keras.ops.convert_to_tensor(leaf)
    of_strings = getattr(leaf.dtype, "kind", None) == "O"
    dtype = "string" if of_strings else keras.backend.standardize_dtype(leaf.dtype)
    return keras.KerasTensor((None, *leaf.shape[1:]), dtype)


def stop_workers(x: Any) -> None:
    """Ends the workers of a `keras.utils.PyDataset`, which Keras leaves running after half an epoch."""
    for thread in threading.enumerate():
        # Private, of Python and of Keras: nothing else leads from the data to its workers.
        enqueuer: Any = getattr(getattr(thread, "_target", None), "__self__", None)
        if isinstance(x, keras.utils.PyDataset) and getattr(enqueuer, "py_dataset", None) is x:
            enqueuer.stop()


def repeated(
    x: Any, y: Any, sample_weight: Any, batch_size: int | None, batches: int
) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Returns data of which `fit` gets the same batches, so many, over and over, and its arguments for that.

    Arrays: rows drawn at random. A `tf.data.Dataset` keeps its first batches in memory. A `PyDataset` gives
    its first ones. Where there are fewer, they come again. Of other data, each batch is another.
    """
    whole = {"steps_per_epoch": None}
    if hasattr(x, "take") and hasattr(x, "cache"):
        return x.repeat().take(batches).cache(), y, sample_weight, whole
    if isinstance(x, keras.utils.PyDataset):
        return _FirstBatches(x, batches), y, sample_weight, {"shuffle": False, **whole}
    arrays = [leaf for leaf in keras.tree.flatten((x, y, sample_weight)) if leaf is not None]
    if not arrays or not all(map(has_rows, arrays)):
        return x, y, sample_weight, {}
    count, wanted = arrays[0].shape[0], batches * (batch_size or 32)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(count) for _ in range(math.ceil(wanted / count))])[
        :wanted
    ]
    return *(take(part, rows) for part in (x, y, sample_weight)), {"shuffle": False, **whole}


class _FirstBatches(keras.utils.PyDataset):
    """The first batches of a `PyDataset`, again where there are fewer."""

    def __init__(self, dataset: keras.utils.PyDataset, batches: int) -> None:
        super().__init__()
        self._dataset, self._batches = dataset, batches

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index % (self._dataset.num_batches or self._batches)]
