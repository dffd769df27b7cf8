"""`ModelParallel` on JAX: two devices, each with a part of the weights."""

from collections.abc import Iterator

import jax
import keras
import numpy as np
import pytest

import by_hand
import reference
from keras_onecycle import OneCycle, lr_find

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="Keras has `ModelParallel` on JAX alone"
)
EPOCHS = 2


@pytest.fixture(autouse=True)
def _two_devices() -> Iterator[None]:
    assert len(jax.devices()) == 2
    mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"])
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*dense/kernel"] = (None, "model")
    layouts[".*dense/bias"] = ("model",)
    layouts[".*dense_1/kernel"] = ("model", None)
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    )
    yield
    keras.distribution.set_distribution(None)


def parts(model: keras.Model) -> list[tuple[jax.sharding.Sharding, list[np.ndarray]]]:
    """How each variable is laid out, and what each device has of it."""
    return [
        (
            variable.value.sharding,
            [np.asarray(shard.data) for shard in variable.value.addressable_shards],
        )
        for variable in (*model.variables, *model.optimizer.variables)
    ]


def test_the_layouts_are_those_of_before() -> None:
    x, y = reference.data(96)
    model = by_hand.compiled()
    model.fit(x, y, **by_hand.FIT)
    before = parts(model)
    shapes = [shards[0].shape for _, shards in before]
    assert shapes[:4] == [(4, 3), (3,), (3, 1), (1,)]
    # The momentum of a weight is laid out as the weight is.
    assert [shapes.count(shape) for shape in ((4, 3), (3,), (3, 1))] == [2, 2, 2]
    result = lr_find(model, x, y, num_steps=30, **by_hand.FIT)
    assert len(result.loss) > 10
    for (sharding, shards), (kept, of_before) in zip(parts(model), before, strict=True):
        assert sharding == kept
        for got, wanted in zip(shards, of_before, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_it_ends_where_one_device_does() -> None:
    x, y = reference.data(96)
    model = by_hand.compiled()
    lr_find(model, x, y, num_steps=30, **by_hand.FIT)
    cycle = OneCycle(0.05)
    model.fit(x, y, epochs=EPOCHS, callbacks=[cycle], **by_hand.FIT)
    assert parts(model)[0][1][0].shape == (4, 3)
    for name, wanted in by_hand.values(12, 0.05).items():
        np.testing.assert_allclose(cycle.history[name], wanted, rtol=1e-5)
    by_hand.assert_unscheduled(model.optimizer)
    keras.distribution.set_distribution(None)
    reference.assert_same_weights(model, by_hand.trained(x, y, EPOCHS, 0.05)[0])
