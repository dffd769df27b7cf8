"""Augmentation and standardisation by the backend, for models that are fed arrays of raw pixels."""

from typing import Any

import keras
import numpy as np
from keras import ops

from examples.cifar10.data.crop_flip import PADDING_MODES, num_choices, pixel_indices
from examples.cifar10.data.statistics import STATISTICS
from keras_onecycle._arguments import check_choice, check_int


@keras.saving.register_keras_serializable(package="keras_onecycle")
class RandomCropFlip(keras.layers.Layer):
    """Pads each image, crops it at random to its size, and flips half of them left to right.

    Each image of a batch has its own crop and flip, and pixels are moved, never interpolated. In
    inference the layer does nothing. It runs inside the compiled train step, on the device. (Of
    Keras's own layers `RandomCrop` has one crop for the whole batch, and `RandomTranslation` moves by
    fractions of a pixel; neither is meant to be compiled.)

    Example:

    >>> images = np.random.randint(0, 256, (8, 32, 32, 3), "uint8")
    >>> layer = data.RandomCropFlip(seed=0)
    >>> layer(images, training=True).shape == images.shape
    True
    >>> bool((np.array(layer(images)) == images).all())
    True

    In front of a model that takes standardised images:

    >>> model = keras.Sequential([
    ...     keras.Input((32, 32, 3), dtype="uint8"),
    ...     data.RandomCropFlip(),
    ...     data.standardization("cifar10"),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(10),
    ... ])

    Args:
        padding: Integer, at least 0: pixels of padding on each side. Defaults to `4`.
        mode: `"zero"` to pad with zeros, or `"reflect"` to mirror the image at its border pixels.
            Defaults to `"zero"`.
        seed: Integer, at least 0, with which the sequence of crops and flips is the same in each run.
            Defaults to `None`: another one each time.
        **kwargs: Arguments of `keras.layers.Layer`: `name`.

    Call arguments:
        images: Tensor of shape `(batch, height, width, channels)` and any dtype, which the output has
            too. Height and width must be known.
        training: Boolean, which Keras passes. Defaults to `False`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range, or the images are of another shape.
    """

    def __init__(
        self, padding: int = 4, mode: str = "zero", seed: int | None = None, **kwargs: Any
    ) -> None:
        # Pixels go through as they are, also under mixed precision.
        super().__init__(**{"autocast": False, **kwargs})
        self.padding = check_int("padding", padding, 0)
        self.mode = check_choice("mode", mode, tuple(PADDING_MODES))
        self.seed = None if seed is None else check_int("seed", seed, 0)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        known = [size for size in input_shape[1:] if size is not None]
        if len(input_shape) != 4 or len(known) != 3:
            raise ValueError(
                "Images must be of shape (batch, height, width, channels), all but the first known. "
                f"Received: images of shape {tuple(input_shape)}"
            )
        if self.mode == "reflect" and self.padding >= min(known[:2]):
            raise ValueError(
                f"`padding` must be less than the image's {min(known[:2])} pixels to reflect it. "
                f"Received: padding={self.padding}"
            )
        self._pixel_indices = pixel_indices(*input_shape[1:3], self.padding)
        self.built = True

    def call(self, images: Any, training: bool = False) -> Any:
        if not training:
            return images
        batch = ops.shape(images)[0]
        height, width, channels = images.shape[1:]
        border = (self.padding, self.padding)
        padded = ops.pad(images, ((0, 0), border, border, (0, 0)), PADDING_MODES[self.mode])
        choices = keras.random.randint(
            (batch,), 0, num_choices(self.padding), dtype="int32", seed=self.seed_generator
        )
        indices = ops.take(self._pixel_indices, choices, axis=0)
        pixels = ops.reshape(padded, (batch, padded.shape[1] * padded.shape[2], channels))
        # Image by image, for the compiler: in one gather over the batch, JAX would send all images to
        # every device that shares it.
        moved = ops.vectorized_map(lambda image: ops.take(*image, axis=0), (pixels, indices))
        return ops.reshape(moved, (batch, height, width, channels))

    def compute_output_spec(self, images: Any, training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor(images.shape, images.dtype)

    def get_config(self) -> dict[str, Any]:
        config = {"padding": self.padding, "mode": self.mode, "seed": self.seed}
        return {**super().get_config(), **config}


def standardization(name: str = "cifar10") -> keras.layers.Normalization:
    """Returns the layer that standardises raw pixels, as the pipelines do.

    Example:

    >>> layer = data.standardization("cifar10")
    >>> np.array(layer(np.full((1, 32, 32, 3), 255, "uint8")))[0, 0, 0].round(2)
    array([2.06, 2.13, 2.12], dtype=float32)

    Args:
        name: `"cifar10"` or `"cifar100"`, by the mean and deviation of whose training images pixels
            from 0 to 255 are standardised. Defaults to `"cifar10"`.

    Returns:
        A `keras.layers.Normalization` that puts out float32.

    Raises:
        ValueError: If there is no such data set.
    """
    statistics = STATISTICS[check_choice("name", name, tuple(STATISTICS))]
    return keras.layers.Normalization(
        mean=255 * np.array(statistics.mean),
        variance=np.square(255 * np.array(statistics.std)),
        dtype="float32",
    )
