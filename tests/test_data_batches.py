"""Batches of arrays: each row once an epoch, in another order each, and shared by processes."""

from typing import Any

import numpy as np
import pytest

from examples.cifar10.data import ArrayBatches

pytestmark = pytest.mark.any_backend

X, Y = np.arange(50)[:, None] * 10, np.arange(50)


def epoch(batches: ArrayBatches) -> np.ndarray:
    rows = []
    for index in range(len(batches)):
        x, y = batches[index]
        np.testing.assert_array_equal(x[:, 0], 10 * y)
        rows.append(y)
    batches.on_epoch_end()
    return np.concatenate(rows)


def test_each_row_once_an_epoch_and_another_order_each() -> None:
    batches = ArrayBatches(X, Y, 16)
    epochs = [epoch(batches) for _ in range(20)]
    for rows in epochs:
        assert len(rows) == len(set(rows)) == 48
    assert len({tuple(rows) for rows in epochs}) == 20
    # What is left out is another row each time.
    assert set(np.concatenate(epochs)) == set(range(50))


def test_a_seed_and_an_epoch_decide_the_order() -> None:
    first = ArrayBatches(X, Y, 10, seed=3)
    orders = [epoch(first) for _ in range(3)]
    again = ArrayBatches(X, Y, 10, seed=3, epoch=2)
    np.testing.assert_array_equal(epoch(again), orders[2])
    assert (epoch(ArrayBatches(X, Y, 10, seed=4)) != orders[0]).any()


def test_processes_share_each_batch() -> None:
    whole = ArrayBatches(X, Y, 12, seed=1)
    shares = [ArrayBatches(X, Y, 12, seed=1, process=(number, 3)) for number in range(3)]
    for index in range(len(whole)):
        parts = [share[index][1] for share in shares]
        assert [len(part) for part in parts] == [4, 4, 4]
        np.testing.assert_array_equal(np.concatenate(parts), whole[index][1])


def test_without_shuffling() -> None:
    batches = ArrayBatches(X, Y, 20, shuffle=False)
    for _ in range(2):
        np.testing.assert_array_equal(epoch(batches), np.arange(40))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 51}, "batch_size=51"),
        ({"batch_size": 10, "process": (0, 3)}, "batch_size=10"),
        ({"process": (2, 2)}, r"process=\(2, 2\)"),
        ({"seed": -1}, "seed=-1"),
        ({"epoch": -1}, "epoch=-1"),
        ({"y": Y[:40]}, "y of length 40"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"Received: .*{message}"):
        ArrayBatches(**{"x": X, "y": Y, "batch_size": 10, **changes})
