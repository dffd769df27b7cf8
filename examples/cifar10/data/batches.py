"""Batches of arrays, for backends without `tf.data` and for several processes."""

from typing import Any

import keras
import numpy as np

from keras_onecycle._arguments import check_bool, check_int


class ArrayBatches(keras.utils.PyDataset):
    """Whole batches of arrays, in another order each epoch, or one process's share of each.

    Example:

    >>> x, y = np.zeros((50, 32, 32, 3), "uint8"), np.arange(50)
    >>> batches = data.ArrayBatches(x, y, batch_size=16, seed=0)
    >>> len(batches), batches[0][0].shape
    (3, (16, 32, 32, 3))

    Of two processes, each makes half of every batch:

    >>> halves = [data.ArrayBatches(x, y, 16, seed=0, process=(i, 2)) for i in (0, 1)]
    >>> bool((np.concatenate([half[0][1] for half in halves]) == batches[0][1]).all())
    True

    Args:
        x: Array of shape `(n, ...)`.
        y: Array of shape `(n, ...)`.
        batch_size: Integer, at least 1, a multiple of the number of processes: rows in a batch, that
            of all processes together. Rows of an epoch that fill no batch are left out.
        seed: Integer, at least 0, that decides the order, with the number of the epoch. The same in
            all processes. Defaults to `0`.
        shuffle: Boolean. If `False`, the order is that of the arrays. Defaults to `True`.
        process: Two integers: the number of this process, from 0, and how many there are. Defaults
            to `(0, 1)`.
        epoch: Integer, at least 0: the number of the next epoch, above 0 where training is resumed.
            Defaults to `0`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range, or there is no whole batch.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        process: tuple[int, int] = (0, 1),
        epoch: int = 0,
    ) -> None:
        super().__init__()
        if len(x) != len(y):
            raise ValueError(
                f"`x` and `y` must be equally long. Received: x of length {len(x)}, y of length {len(y)}"
            )
        number, count = process
        check_int("process", count)
        if check_int("process", number, 0) >= count:
            raise ValueError(
                f"`process` must be a number below that of processes. Received: process={process!r}"
            )
        check_int("batch_size", batch_size)
        if batch_size > len(x) or batch_size % count:
            raise ValueError(
                f"`batch_size` must be at most the {len(x)} rows and a multiple of the {count} "
                f"process(es). Received: batch_size={batch_size}"
            )
        self.x, self.y = x, y
        self.batch_size = batch_size
        self.seed = check_int("seed", seed, 0)
        self.shuffle = check_bool("shuffle", shuffle)
        share = batch_size // count
        self._share = slice(number * share, (number + 1) * share)
        self.epoch = check_int("epoch", epoch, 0)
        self._order = self._order_of_epoch()

    def __len__(self) -> int:
        return len(self.x) // self.batch_size

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self._order[index * self.batch_size :][: self.batch_size][self._share]
        return self.x[rows], self.y[rows]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order = self._order_of_epoch()

    def _order_of_epoch(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.x))
        return np.random.default_rng((self.seed, self.epoch)).permutation(len(self.x))
