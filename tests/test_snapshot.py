"""What is copied of a model before a range test, and put back after it."""

import keras
import numpy as np
import pytest

import reference
from keras_onecycle._keras import backend
from keras_onecycle._keras.snapshot import Snapshot


def trained() -> keras.Model:
    model = reference.build()
    model.compile(keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    fit(model)
    return model


def fit(model: keras.Model) -> None:
    x, y = reference.data(32)
    model.fit(x, y, batch_size=4, verbose=0)


def state(model: keras.Model) -> list[np.ndarray]:
    return [
        np.array(keras.ops.convert_to_numpy(v))
        for v in (*model.variables, *model.optimizer.variables)
    ]


# So few bytes that even these variables are written piece by piece.
@pytest.mark.parametrize("piece", [2**24, 24])
def test_restored_bit_for_bit_more_than_once(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_PIECE", piece)
    model = trained()
    before = state(model)
    snapshot = Snapshot(model)
    for _ in range(2):
        # The second time, the model must not have trained in the memory of the snapshot.
        fit(model)
        assert any((a != b).any() for a, b in zip(before, state(model), strict=True))
        snapshot.restore()
        for got, wanted in zip(state(model), before, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_holds_copies_of_its_own() -> None:
    kernel = trained().trainable_variables[0]
    first, second = backend.read(kernel)[0], backend.read(kernel)[0]
    assert not np.shares_memory(first, second)
    assert first.flags.owndata
