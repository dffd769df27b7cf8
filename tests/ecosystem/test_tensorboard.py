"""What Keras's `TensorBoard` writes beside `OneCycle`, read from its files."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

import by_hand
import reference
from keras_onecycle import OneCycle

EPOCHS, UPDATES = 2, 12


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Values by step, by tag."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    tags = [
        tag
        for tag in events.Tags()["tensors"]
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
    ]
    return {
        tag: {e.step: float(tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)}
        for tag in tags
    }


def test_by_batch(tmp_path: Path) -> None:
    x, y = reference.data(96)
    model = by_hand.compiled()
    board = keras.callbacks.TensorBoard(tmp_path, update_freq=1)
    cycle = OneCycle(0.05)
    model.fit(x, y, epochs=EPOCHS, callbacks=[cycle, board], **by_hand.FIT)
    seen = scalars(tmp_path / "train")
    wanted_model, losses = by_hand.trained(x, y, EPOCHS, 0.05)
    reference.assert_same_weights(model, wanted_model)
    # Keras's loss is the mean of the epoch so far.
    means = np.cumsum(np.reshape(losses, (EPOCHS, -1)), axis=1) / np.arange(1, 7)
    np.testing.assert_allclose(list(seen["batch_loss"].values()), means.ravel(), rtol=1e-4)
    wanted = by_hand.values(UPDATES, 0.05)
    assert_values(seen["epoch_momentum"], wanted["momentum"][[5, 11]])
    # Keras reads it off the optimizer: that of the next update; after the last one it is held.
    assert_values(seen["epoch_learning_rate"], wanted["learning_rate"][[6, 11]])


def assert_values(got: dict[int, float], wanted: np.ndarray) -> None:
    assert list(got) == list(range(len(wanted)))
    np.testing.assert_allclose(list(got.values()), wanted, rtol=1e-5)


def test_each_update_from_the_history(tmp_path: Path) -> None:
    x, y = reference.data(96)
    cycle = OneCycle(0.05)
    by_hand.compiled().fit(x, y, epochs=EPOCHS, callbacks=[cycle], **by_hand.FIT)
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        for name, values in cycle.history.items():
            for step, value in enumerate(values):
                tf.summary.scalar(name, value, step)
    for name, wanted in by_hand.values(UPDATES, 0.05).items():
        assert_values(scalars(tmp_path)[name], wanted)
