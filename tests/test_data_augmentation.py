"""Pipelines and layer: each image is a crop and flip that NumPy makes, once an epoch, with its label."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from examples.cifar10 import data
from examples.cifar10.data.crop_flip import num_choices, pixel_indices
from examples.cifar10.data.statistics import STATISTICS
from keras_onecycle import OneCycle

pytestmark = pytest.mark.filterwarnings("ignore:.*Is a part missing")

IMAGES = 60
NUMPY_MODE = {"zero": "constant", "reflect": "reflect"}

needs_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="`tf.data` is TensorFlow's"
)


def of_the_pipeline(test: Any) -> Any:
    """It is `tf.data`, whatever the backend."""
    return needs_tensorflow(pytest.mark.any_backend(test))


def images(count: int = IMAGES, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, height, width, 3), dtype="uint8")


def crops(image: np.ndarray, mode: str, padding: int = 4) -> dict[bytes, tuple[int, int, bool]]:
    """All that a crop and flip can make of an image, by slices, and the offsets of each."""
    height, width, _ = image.shape
    border = (padding, padding)
    padded = np.pad(image, (border, border, (0, 0)), NUMPY_MODE[mode])
    made = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[top : top + height, left : left + width]
            made[crop.tobytes()] = (top, left, False)
            made[crop[:, ::-1].tobytes()] = (top, left, True)
    assert len(made) == 2 * (2 * padding + 1) ** 2
    return made


def pixels(standardised: Any, name: str = "cifar10") -> np.ndarray:
    """The raw pixels again, in double precision."""
    mean, std = np.array(STATISTICS[name].mean), np.array(STATISTICS[name].std)
    raw = (np.asarray(standardised, dtype="float64") * std + mean) * 255
    assert np.abs(raw - np.rint(raw)).max() < 1e-3
    return np.rint(raw).astype("uint8")


def assert_uniform(offsets: list[tuple[int, int, bool]]) -> None:
    """All offsets are there; each axis, and the flip, pass a chi-square test at 1 in 100,000."""
    assert len(set(offsets)) == 162
    for axis, (sides, bound) in enumerate([(9, 36.8), (9, 36.8), (2, 19.5)]):
        counts = np.bincount([int(offset[axis]) for offset in offsets], minlength=sides)
        assert len(counts) == sides
        expected = len(offsets) / sides
        assert ((counts - expected) ** 2 / expected).sum() < bound


def folder(path: Path, name: str = "cifar10") -> Path:
    x, classes = images(), STATISTICS[name].num_classes
    y = np.arange(IMAGES) * 7 % classes
    np.savez(path / f"{name}.npz", x_train=x, y_train=y, x_test=x[:50], y_test=y[:50])
    return path


def epoch(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    batches = [(np.array(x), np.array(y)) for x, y in dataset]
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


@pytest.mark.any_backend
def test_indices_are_the_crops_that_slices_make() -> None:
    image = images(1, 5, 7)[0]
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    made = padded.reshape(-1, 3)[pixel_indices(5, 7, 2)]
    assert len(made) == num_choices(2)
    assert {one.tobytes() for one in made} == set(crops(image, "zero", 2))


# Pipelines


@pytest.mark.any_backend
@of_the_pipeline
@pytest.mark.parametrize(("mode", "name"), [("zero", "cifar10"), ("reflect", "cifar100")])
def test_each_image_once_an_epoch_cropped_with_its_label(
    tmp_path: Path, mode: str, name: str
) -> None:
    train, _ = getattr(data, name)(16, folder(tmp_path, name), seed=1, padding=mode)
    x, y = images(), np.arange(IMAGES) * 7 % STATISTICS[name].num_classes
    source = {
        crop: (number, offset)
        for number in range(IMAGES)
        for crop, offset in crops(x[number], mode).items()
    }
    offsets, orders = [], []
    for _ in range(40):
        got, labels = epoch(train)
        found = [source[image.tobytes()] for image in pixels(got, name)]
        numbers = [number for number, _ in found]
        assert len(set(numbers)) == len(numbers) == 48
        np.testing.assert_array_equal(labels, y[numbers])
        offsets += [offset for _, offset in found]
        orders.append(numbers)
    assert len({tuple(order) for order in orders}) == 40
    # What an epoch leaves out is another remainder each time.
    assert {number for order in orders for number in order} == set(range(IMAGES))
    assert_uniform(offsets)


@pytest.mark.any_backend
@of_the_pipeline
def test_test_images_are_all_there_in_order(tmp_path: Path) -> None:
    _, test = data.cifar10(16, folder(tmp_path), seed=1)
    for _ in range(2):
        got, labels = epoch(test)
        np.testing.assert_array_equal(pixels(got), images()[:50])
        np.testing.assert_array_equal(labels, np.arange(50) * 7 % 10)


@pytest.mark.any_backend
@of_the_pipeline
def test_without_augmentation_and_remainder(tmp_path: Path) -> None:
    train, _ = data.cifar10(16, folder(tmp_path), augment=False, drop_remainder=False)
    number = {image.tobytes(): place for place, image in enumerate(images())}
    first, second = ([number[i.tobytes()] for i in pixels(epoch(train)[0])] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(IMAGES))
    assert first != second


@pytest.mark.any_backend
@of_the_pipeline
def test_what_keras_sees(tmp_path: Path) -> None:
    import tensorflow as tf

    train, test = data.cifar10(16, folder(tmp_path))
    assert (int(train.cardinality()), int(test.cardinality())) == (3, 4)
    assert train.element_spec == (
        tf.TensorSpec((16, 32, 32, 3), tf.float32),
        tf.TensorSpec((16,), tf.int32),
    )
    assert test.element_spec[0].shape.as_list() == [None, 32, 32, 3]
    train, _ = data.cifar10(16, folder(tmp_path), drop_remainder=False, num_train=33)
    assert int(train.cardinality()) == 3


@pytest.mark.any_backend
@of_the_pipeline
def test_a_seed_gives_the_same_epochs_again(tmp_path: Path) -> None:
    def epochs(seed: int | None) -> list[np.ndarray]:
        train, _ = data.cifar10(4, folder(tmp_path), seed=seed)
        return [epoch(train)[0] for _ in range(3)]

    first, again, other = epochs(5), epochs(5), epochs(6)
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert (first[0] != first[1]).any()
    assert (first[0] != other[0]).any()
    assert (epochs(None)[0] != epochs(None)[0]).any()


@pytest.mark.any_backend
@of_the_pipeline
def test_seeded_batches_made_at_once_are_augmented_each_on_its_own(tmp_path: Path) -> None:
    # A batch's augmentation is of its own seed: were it one for all, these would be alike.
    train, _ = data.cifar10(20, folder(tmp_path), seed=5)
    x = images()
    source = {crop: offset for image in x for crop, offset in crops(image, "zero").items()}
    draws = {tuple(source[i.tobytes()] for i in pixels(batch)) for batch, _ in train}
    assert len(draws) == 3


@pytest.mark.any_backend
@of_the_pipeline
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"batch_size": 2.0}, TypeError, "batch_size=2.0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"padding": "wrap"}, ValueError, "padding='wrap'"),
        ({"augment": 1}, TypeError, "augment=1"),
        ({"drop_remainder": None}, TypeError, "drop_remainder=None"),
        ({"num_train": 0}, ValueError, "num_train=0"),
        ({"data_dir": 1}, TypeError, "data_dir=1"),
        ({"download": 1}, TypeError, "download=1"),
        ({}, FileNotFoundError, "nowhere"),
    ],
)
def test_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.cifar10(**{"batch_size": 8, "data_dir": "nowhere", **arguments})


@pytest.mark.any_backend
@of_the_pipeline
def test_a_batch_larger_than_the_training_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at most 20.*batch_size=21"):
        data.cifar10(21, folder(tmp_path), num_train=20)
    train, _ = data.cifar10(21, folder(tmp_path), num_train=20, drop_remainder=False)
    assert len(train) == 1


def small_model(*front: keras.layers.Layer, dtype: str = "float32", **compile_: Any) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3), dtype=dtype),
            *front,
            keras.layers.AveragePooling2D(8),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, **compile_)
    return model


@pytest.mark.any_backend
@needs_tensorflow
def test_one_cycle_needs_no_total_steps(tmp_path: Path) -> None:
    train, test = data.cifar10(16, folder(tmp_path))
    cycle = OneCycle(0.1)
    small_model().fit(train, validation_data=test, epochs=2, verbose=0, callbacks=[cycle])
    assert len(cycle.history["momentum"]) == 6


@needs_tensorflow
def test_replicas_share_the_images_of_an_epoch(tmp_path: Path) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    from test_distribution import two_replicas

    train, test = data.cifar10(20, folder(tmp_path), seed=1)
    source = {crop: n for n, image in enumerate(images()) for crop in crops(image, "zero")}
    strategy = two_replicas()
    distributed = strategy.experimental_distribute_dataset(train)
    for _ in range(2):
        parts = [strategy.experimental_local_results(batch) for batch, _ in distributed]
        assert {tuple(part.shape[0] for part in batch) for batch in parts} == {(10, 10)}
        numbers = [
            source[image.tobytes()] for batch in parts for part in batch for image in pixels(part)
        ]
        assert sorted(numbers) == list(range(IMAGES))
    with strategy.scope():
        model = small_model(jit_compile=False)
    cycle = OneCycle(0.1)
    model.fit(train, validation_data=test, epochs=2, verbose=0, callbacks=[cycle])
    assert len(cycle.history["momentum"]) == 6


# Layer


@pytest.mark.parametrize(("mode", "dtype"), [("zero", "uint8"), ("reflect", "float32")])
def test_the_layer_crops_each_image_on_its_own(mode: str, dtype: str) -> None:
    x = images(40, 16, 12)
    tables = [crops(image, mode) for image in x]
    layer = data.RandomCropFlip(mode=mode, seed=3)
    offsets: list[tuple[int, int, bool]] = []
    for _ in range(45):
        got = keras.ops.convert_to_numpy(layer(x.astype(dtype), training=True))
        assert got.dtype == dtype
        found = [
            table[image.astype("uint8").tobytes()] for table, image in zip(tables, got, strict=True)
        ]
        assert len(set(found)) > 1
        offsets += found
    assert_uniform(offsets)


def test_the_layer_does_nothing_in_inference() -> None:
    x = images(4)
    layer = data.RandomCropFlip()
    for got in (layer(x), layer(x, training=False), small_model(layer, dtype="uint8").layers[0](x)):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(got), x)


def test_no_padding_flips_alone() -> None:
    x = images(40, 4, 4)
    got = keras.ops.convert_to_numpy(data.RandomCropFlip(padding=0, seed=0)(x, training=True))
    flipped = (got == x[:, :, ::-1]).all((1, 2, 3))
    np.testing.assert_array_equal(got[~flipped], x[~flipped])
    assert 5 < flipped.sum() < 35


def test_the_layers_seed() -> None:
    x = images(16)

    def draws(seed: int | None) -> list[np.ndarray]:
        layer = data.RandomCropFlip(seed=seed)
        return [keras.ops.convert_to_numpy(layer(x, training=True)) for _ in range(2)]

    np.testing.assert_array_equal(draws(1), draws(1))
    assert (draws(1)[0] != draws(1)[1]).any()
    assert (draws(1)[0] != draws(2)[0]).any()
    assert (draws(None)[0] != draws(None)[0]).any()


@pytest.mark.parametrize("jit_compile", [True, "auto"])
def test_the_layer_in_the_compiled_step(jit_compile: bool | str) -> None:
    # A linear model of one weight for each pixel: the gradient of its first step is the sum of what
    # the layer put out, which tells whether the step saw crops, and of which image.
    x = images(1)
    flat = [
        keras.layers.Flatten(),
        keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros"),
    ]
    front = [keras.Input((32, 32, 3), dtype="uint8"), data.RandomCropFlip(seed=2)]
    model = keras.Sequential([*front, keras.layers.Rescaling(1.0), *flat])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, out: -out, jit_compile=jit_compile)
    seen = set()
    before = np.zeros((32, 32, 3))
    for _ in range(12):
        model.fit(x, np.zeros((1, 1)), verbose=0)
        weights = np.array(model.get_weights()[0] if len(model.weights) == 1 else model.weights[-1])
        after = weights.reshape(32, 32, 3)
        seen.add(crops(x[0], "zero")[np.rint(after - before).astype("uint8").tobytes()])
        before = after
    assert len(seen) > 8


def test_the_layer_is_saved_with_the_model(tmp_path: Path) -> None:
    model = small_model(
        data.RandomCropFlip(2, "reflect", seed=9), data.standardization("cifar100"), dtype="uint8"
    )
    x = images(6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    config = loaded.layers[0].get_config()
    assert [config[key] for key in ("padding", "mode", "seed")] == [2, "reflect", 9]
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)
    for one in (model, loaded):
        one.layers[0].seed_generator.state.assign([0, 9])
    np.testing.assert_array_equal(
        *(np.array(m.layers[0](x, training=True)) for m in (model, loaded))
    )


@pytest.mark.any_backend
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_raw_pixels_standardised_by_the_model_are_those_of_the_pipeline(policy: str) -> None:
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        x = images(4)
        got = data.standardization("cifar10")(data.RandomCropFlip()(x))
        assert keras.backend.standardize_dtype(got.dtype) == "float32"
        np.testing.assert_array_equal(pixels(keras.ops.convert_to_numpy(got)), x)
    finally:
        keras.config.set_dtype_policy(previous)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"padding": -1}, ValueError, "padding=-1"),
        ({"padding": 1.0}, TypeError, "padding=1.0"),
        ({"mode": "constant"}, ValueError, "mode='constant'"),
        ({"seed": "a"}, TypeError, "seed='a'"),
    ],
)
def test_the_layers_arguments(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        data.RandomCropFlip(**arguments)


def test_the_layers_input() -> None:
    with pytest.raises(ValueError, match=r"\(batch, height, width, channels\).*\(32, 32, 3\)"):
        data.RandomCropFlip()(images(1)[0])
    with pytest.raises(ValueError, match="all but the first known"):
        data.RandomCropFlip()(keras.Input((None, 32, 3)))
    with pytest.raises(ValueError, match=r"less than the image's 4 pixels.*padding=4"):
        data.RandomCropFlip(mode="reflect")(images(1, 4, 4))
