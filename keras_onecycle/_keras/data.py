"""What the range test does to data that goes into `fit`: builds a model from it, and stops its workers."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import keras


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
    return keras.KerasTensor((None, *leaf.shape[1:]), keras.backend.standardize_dtype(leaf.dtype))


def stop_workers(x: Any) -> None:
    """Ends the workers of a `keras.utils.PyDataset`, which Keras leaves running after half an epoch."""
    for thread in threading.enumerate():
        # Private, of Python and of Keras: nothing else leads from the data to its workers.
        enqueuer: Any = getattr(getattr(thread, "_target", None), "__self__", None)
        if isinstance(x, keras.utils.PyDataset) and getattr(enqueuer, "py_dataset", None) is x:
            enqueuer.stop()
