"""What Weights & Biases is sent, read from the file that a run offline leaves."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from wandb.integration.keras import WandbMetricsLogger
from wandb.proto import wandb_internal_pb2

import by_hand
import reference
from keras_onecycle import OneCycle

EPOCHS, UPDATES = 2, 12


# W&B's files are a log as LevelDB writes it: blocks, in them chunks with a header of 7 bytes: checksum,
# length, and whether the record is whole (1), begins (2), goes on (3) or ends (4) in it.
BLOCK, HEADER = 32768, 7


def records(path: Path) -> Iterator[wandb_internal_pb2.Record]:
    """What a file of W&B's says, piece by piece."""
    data = path.read_bytes()
    place, whole = HEADER, b""  # After the file's own header.
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def rows(folder: Path) -> list[dict[str, Any]]:
    """What was logged, in order."""
    wandb.teardown()  # It writes in a process of its own.
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    items = [r.history.item for r in records(path) if r.HasField("history")]
    return [{i.key or i.nested_key[0]: json.loads(i.value_json) for i in row} for row in items]


def column(found: list[dict[str, Any]], name: str) -> list[float]:
    return [row[name] for row in found if name in row]


@pytest.mark.parametrize("log_freq", ["epoch", "batch"])
def test_metrics_logger(tmp_path: Path, log_freq: str) -> None:
    x, y = reference.data(96)
    model = by_hand.compiled()
    with wandb.init(mode="offline", dir=tmp_path):
        callbacks = [OneCycle(0.05), WandbMetricsLogger(log_freq)]
        model.fit(x, y, epochs=EPOCHS, callbacks=callbacks, **by_hand.FIT)
    wanted_model, losses = by_hand.trained(x, y, EPOCHS, 0.05)
    reference.assert_same_weights(model, wanted_model)

    found, wanted = rows(tmp_path), by_hand.values(UPDATES, 0.05)
    np.testing.assert_allclose(column(found, "epoch/momentum"), wanted["momentum"][[5, 11]], 1e-5)
    # W&B reads it off the optimizer: that of the next update; after the last one it is held.
    rates = np.append(wanted["learning_rate"], wanted["learning_rate"][-1])[1:]
    np.testing.assert_allclose(column(found, "epoch/learning_rate"), rates[[5, 11]], 1e-5)
    if log_freq == "batch":
        np.testing.assert_allclose(column(found, "batch/learning_rate"), rates, 1e-5)
        means = np.cumsum(np.reshape(losses, (EPOCHS, -1)), axis=1) / np.arange(1, 7)
        np.testing.assert_allclose(column(found, "batch/loss"), means.ravel(), 1e-4)


def test_each_update_from_the_history(tmp_path: Path) -> None:
    x, y = reference.data(96)
    cycle = OneCycle(0.05)
    by_hand.compiled().fit(x, y, epochs=EPOCHS, callbacks=[cycle], **by_hand.FIT)
    with wandb.init(mode="offline", dir=tmp_path) as run:
        for values in zip(*cycle.history.values(), strict=True):
            run.log(dict(zip(cycle.history, values, strict=True)))
    found = rows(tmp_path)
    for name, wanted in by_hand.values(UPDATES, 0.05).items():
        np.testing.assert_allclose(column(found, name), wanted, 1e-5)
