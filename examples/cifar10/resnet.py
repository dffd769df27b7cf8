"""The residual networks for images of CIFAR's size."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from examples.cifar10.kernels import Convolution, Normalization
from keras_onecycle._arguments import check_bool, check_float, check_int

_STAGES = (16, 32, 64)


def resnet(
    depth: int = 56,
    num_classes: int = 10,
    input_shape: Sequence[int] = (32, 32, 3),
    dropout: float = 0.0,
    weight_decay: float = 1e-4,
    batch_norm_momentum: float = 0.9,
    synchronized: bool = False,
) -> keras.Model:
    """Builds the residual network of He et al. for CIFAR, with shortcuts that have no parameters.

    A 3x3 convolution, three stages of `(depth - 2) / 6` blocks with 16, 32 and 64 filters, the mean
    over all places, and a dense layer. A block is two 3x3 convolutions, each with batch normalization
    and without bias; where a stage halves the image, the shortcut takes every second pixel and
    fills the new channels with zeros. Kernels start as He et al. draw them. Convolutions have one pixel
    of zeros on each side, so that those that halve the image see what the shortcut takes.

    Example:

    >>> model = resnet(depth=20)
    >>> model.output_shape
    (None, 10)
    >>> sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)
    269722
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(keras.optimizers.SGD(momentum=0.9), loss=loss, metrics=["accuracy"])

    Args:
        depth: Integer, 6n + 2 with n of at least 1: 8, 14, 20, 32, 44, 56, 110. Defaults to `56`.
        num_classes: Integer, at least 1. Defaults to `10`.
        input_shape: Three integers: height, width (at least 4 each) and channels (at most 16).
            Defaults to `(32, 32, 3)`.
        dropout: Float in [0, 1): the fraction dropped before the dense layer. Defaults to `0.0`.
        weight_decay: Float, at least 0. L2 in the loss whose gradient is `weight_decay * w`, as in
            the papers, for kernels only; the optimizer must not have one of its own then.
            Defaults to `1e-4`.
        batch_norm_momentum: Float in [0, 1): the weight of the past in the moving statistics.
            Defaults to `0.9`.
        synchronized: Boolean. Whether batch normalization sees the batch of all devices under
            `tf.distribute.MirroredStrategy`. For the TensorFlow backend; under
            `keras.distribution` on JAX it always does. Defaults to `False`.

    Returns:
        A `keras.Model` that maps float images of shape `(batch, *input_shape)` to logits of shape
        `(batch, num_classes)`, in float32 also under a mixed-precision policy.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range.

    References:

    - [He et al., 2015, section 4.2](https://arxiv.org/abs/1512.03385)
    - [He et al., 2015, on initialization](https://arxiv.org/abs/1502.01852)
    """
    check_int("depth", depth)
    if depth < 8 or depth % 6 != 2:
        raise ValueError(
            "`depth` must be 6n + 2, as 8, 14, 20, 32, 44, 56 and 110 are. "
            f"Received: depth={depth!r}"
        )
    check_int("num_classes", num_classes)
    input_shape = _check_input_shape(input_shape)
    check_float("dropout", dropout, 0, 1, open_high=True)
    check_float("weight_decay", weight_decay, 0)
    check_float("batch_norm_momentum", batch_norm_momentum, 0, 1, open_high=True)
    check_bool("synchronized", synchronized)

    kernels: dict[str, Any] = {"kernel_initializer": "he_normal"}
    if weight_decay:
        # Keras's L2 is `l2 * w ** 2`, whose gradient is twice `l2 * w`.
        kernels["kernel_regularizer"] = keras.regularizers.L2(weight_decay / 2)

    def normalized_convolution(x: Any, filters: int, strides: int = 1) -> Any:
        x = Convolution(
            filters,
            3,
            strides,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            **kernels,
        )(x)
        return Normalization(momentum=batch_norm_momentum, epsilon=1e-5, synchronized=synchronized)(
            x
        )

    def block(x: Any, filters: int, strides: int) -> Any:
        shortcut = x
        if strides > 1:
            missing = filters - x.shape[-1]
            shortcut = ops.pad(x[:, ::strides, ::strides], [[0, 0], [0, 0], [0, 0], [0, missing]])
        x = layers.ReLU()(normalized_convolution(x, filters, strides))
        x = normalized_convolution(x, filters)
        return layers.ReLU()(layers.Add()([x, shortcut]))

    inputs = keras.Input(input_shape)
    x = layers.ReLU()(normalized_convolution(inputs, _STAGES[0]))
    for stage, filters in enumerate(_STAGES):
        for number in range((depth - 2) // 6):
            x = block(x, filters, strides=2 if stage > 0 and number == 0 else 1)
    x = layers.GlobalAveragePooling2D(data_format="channels_last")(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(num_classes, dtype="float32", **kernels)(x)
    return keras.Model(inputs, outputs, name=f"resnet{depth}")


def _check_input_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    message = (
        "`input_shape` must be height and width, of at least 4, and 1 to 16 channels. "
        f"Received: input_shape={input_shape!r}"
    )
    if not isinstance(input_shape, Sequence) or isinstance(input_shape, str):
        raise TypeError(message)
    if len(input_shape) != 3:
        raise ValueError(message)
    height, width, channels = (check_int("input_shape", size) for size in input_shape)
    if min(height, width) < 4 or channels > _STAGES[0]:
        raise ValueError(message)
    return height, width, channels
