"""CIFAR as `tf.data` pipelines that work on whole batches.

The order is a shuffled range of indices. One gather then takes the pixels of a batch out of all the
images, which are kept padded in memory: it selects, crops and flips at once, and moves each pixel as
a row of three bytes.
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from examples.cifar10.data.arrays import check_arguments, load_arrays
from examples.cifar10.data.crop_flip import PADDING_MODES, num_choices, pixel_indices
from examples.cifar10.data.statistics import STATISTICS
from keras_onecycle._arguments import check_bool, check_choice, check_int

if TYPE_CHECKING:
    import tensorflow as tf

PADDING = 4


def cifar10(
    batch_size: int,
    data_dir: str | os.PathLike | None = None,
    seed: int | None = None,
    *,
    num_train: int | None = None,
    padding: str = "zero",
    augment: bool = True,
    drop_remainder: bool = True,
    download: bool = False,
) -> tuple["tf.data.Dataset", "tf.data.Dataset"]:
    """Makes `tf.data` pipelines of CIFAR-10 for training and test.

    The training images are shuffled anew each epoch, padded by 4 pixels, cropped at random to 32x32
    and half of them flipped, each image on its own. All are standardised by the mean and deviation of
    CIFAR-10's training images, a channel at a time: (0.4914, 0.4822, 0.4465) and (0.2470, 0.2435,
    0.2616) of pixels in [0, 1]. Zero padding is black, as it is put on before.

    The number of batches is known, so that `OneCycle` needs no `total_steps`. The images are kept in
    host memory: 240 MB, padded, for training (150 MB with `augment=False`) and 30 MB for test; while
    they are being loaded, about 1.1 GB. The pipelines work with every Keras backend and under
    `tf.distribute.MirroredStrategy`, where `batch_size` is that of all replicas together.

    Example:

    ```python
    train, test = data.cifar10(128)
    model.fit(train, validation_data=test, epochs=30, callbacks=[OneCycle(max_lr=0.1)])
    ```

    >>> import tempfile
    >>> x, y = np.zeros((40, 32, 32, 3), "uint8"), np.arange(40) % 10
    >>> folder = tempfile.TemporaryDirectory()
    >>> np.savez(f"{folder.name}/cifar10.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    >>> train, test = data.cifar10(16, folder.name)
    >>> len(train), len(test)
    (2, 3)
    >>> images, labels = next(iter(train))
    >>> images.shape, images.dtype, labels.dtype
    (TensorShape([16, 32, 32, 3]), tf.float32, tf.int32)

    Args:
        batch_size: Integer, at least 1: images in a batch.
        data_dir: Path of a folder that `tensorflow_datasets` prepared, or with `.npz` parts, as in
            `load_arrays`. Defaults to `None`: the environment variable `TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`.
        seed: Integer, at least 0, with which order and augmentation are the same in each run. They
            still differ from epoch to epoch. Defaults to `None`: other ones each time.
        num_train: Integer, at least 1: training images to use, balanced by class. They are always the
            same, whatever the seed. Defaults to `None`: all 50,000.
        padding: `"zero"`, or `"reflect"` to mirror the image at its border pixels. Defaults to
            `"zero"`.
        augment: Boolean. If `False`, training images are not cropped and flipped. Defaults to `True`.
        drop_remainder: Boolean. Whether training leaves out the images of an epoch that fill no
            batch; test never does. Defaults to `True`.
        download: Boolean. If `True`, `tensorflow_datasets` downloads and prepares what is not there.
            Defaults to `False`.

    Returns:
        `(train, test)`, two `tf.data.Dataset` of batches `(images, labels)`: float32 of shape
        `(batch, 32, 32, 3)` and int32 of shape `(batch,)`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range, or a file is torn or holds something else.
        FileNotFoundError: If the data is not in the folder.
        ImportError: If TensorFlow is not installed.
    """
    return _cifar(
        "cifar10",
        batch_size,
        data_dir,
        seed,
        num_train=num_train,
        padding=padding,
        augment=augment,
        drop_remainder=drop_remainder,
        download=download,
    )


def cifar100(
    batch_size: int,
    data_dir: str | os.PathLike | None = None,
    seed: int | None = None,
    **options: Any,
) -> tuple["tf.data.Dataset", "tf.data.Dataset"]:
    """Makes `tf.data` pipelines of CIFAR-100, with its 100 fine labels, as `cifar10` does.

    Mean and deviation are (0.5071, 0.4865, 0.4409) and (0.2673, 0.2564, 0.2762).

    Example:

    ```python
    train, test = data.cifar100(128)
    model.fit(train, validation_data=test, epochs=30, callbacks=[OneCycle(max_lr=0.1)])
    ```

    Args:
        batch_size: Integer, at least 1: images in a batch.
        data_dir: Path of a folder, as in `cifar10`. Defaults to `None`.
        seed: Integer, at least 0, as in `cifar10`. Defaults to `None`.
        **options: The other arguments of `cifar10`.

    Returns:
        `(train, test)`, and errors, as `cifar10`.
    """
    return _cifar("cifar100", batch_size, data_dir, seed, **options)


def _cifar(
    name: str,
    batch_size: int,
    data_dir: str | os.PathLike | None,
    seed: int | None,
    *,
    num_train: int | None = None,
    padding: str = "zero",
    augment: bool = True,
    drop_remainder: bool = True,
    download: bool = False,
) -> tuple["tf.data.Dataset", "tf.data.Dataset"]:
    check_int("batch_size", batch_size)
    check_arguments(name, data_dir, num_train, download)
    if seed is not None:
        check_int("seed", seed, 0)
    check_choice("padding", padding, tuple(PADDING_MODES))
    check_bool("augment", augment)
    check_bool("drop_remainder", drop_remainder)
    _tensorflow(name)
    train, test = load_arrays(name, data_dir, num_train, download=download)
    if drop_remainder and batch_size > len(train[0]):
        raise ValueError(
            f"`batch_size` must be at most {len(train[0])}, the number of training images; else "
            "`drop_remainder=True` leaves no batch at all. "
            f"Received: batch_size={batch_size}"
        )
    return (
        training_batches(
            *train,
            batch_size,
            name=name,
            seed=seed,
            padding=padding,
            augment=augment,
            drop_remainder=drop_remainder,
        ),
        plain_batches(*test, batch_size, name=name),
    )


def _tensorflow(name: str) -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise ImportError(
            f"`{name}` makes `tf.data` pipelines, which need TensorFlow: "
            "`pip install '.[tensorflow]'` in your clone. Without it, use the arrays of "
            f"`load_arrays('{name}')`, and `RandomCropFlip` in the model. ({error})"
        ) from error
    return tensorflow


def training_batches(
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int,
    *,
    name: str = "cifar10",
    seed: int | None = None,
    padding: str = "zero",
    augment: bool = True,
    drop_remainder: bool = True,
) -> "tf.data.Dataset":
    """Returns shuffled, augmented, standardised batches of uint8 images of shape `(n, 32, 32, 3)`."""
    tf = _tensorflow(name)
    # With no padding, the first choice is the image itself.
    margin, number = (PADDING, num_choices(PADDING)) if augment else (0, 1)
    border = (margin, margin)
    padded = np.pad(x, ((0, 0), border, border, (0, 0)), PADDING_MODES[padding])
    _, height, width, channels = x.shape
    size = padded.shape[1] * padded.shape[2]
    standardize = _standardizer(name, height * width)
    with tf.device("CPU:0"):
        pixels = tf.constant(padded.reshape(-1, channels))
        labels = tf.constant(y)
        table = tf.constant(pixel_indices(height, width, margin))

    def make(indices: Any, seeds: Any) -> tuple[Any, Any]:
        choices = tf.random.stateless_uniform(tf.shape(indices), seeds, 0, number, tf.int32)
        where = tf.gather(table, choices) + (indices * size)[:, None]
        images = standardize(tf.gather(pixels, where))
        return tf.reshape(images, (-1, height, width, channels)), tf.gather(labels, indices)

    indices = tf.data.Dataset.range(len(x), output_type=tf.int32).shuffle(len(x), seed=seed)
    # A seed for each batch, so that batches made in parallel are the same in each run.
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
    batches = tf.data.Dataset.zip(indices.batch(batch_size, drop_remainder), seeds)
    return batches.map(make, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def plain_batches(
    x: np.ndarray, y: np.ndarray, batch_size: int, *, name: str = "cifar10"
) -> "tf.data.Dataset":
    """Returns standardised batches in the order of the arrays, with the last one as short as it is."""
    tf = _tensorflow(name)
    standardize = _standardizer(name, x.shape[1] * x.shape[2])

    def make(images: Any, labels: Any) -> tuple[Any, Any]:
        return tf.reshape(standardize(images), (-1, *x.shape[1:])), labels

    with tf.device("CPU:0"):
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
    return batches.map(make, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _standardizer(name: str, num_pixels: int) -> Any:
    """Returns the function that makes uint8 pixels standardised rows of float32, an image a row."""
    tf = _tensorflow(name)
    # A whole row at a time: adding three numbers pixel by pixel is several times slower.
    scale, shift = (np.tile(values, num_pixels) for values in STATISTICS[name].affine())
    return lambda images: tf.cast(tf.reshape(images, (-1, scale.size)), tf.float32) * scale + shift
