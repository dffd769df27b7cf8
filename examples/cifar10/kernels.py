"""Convolution and batch normalization by the backend's own kernels, where Keras is slower than these.

The layers compute what Keras's do. On PyTorch, Keras copies the images of every convolution twice to
put the channels first and then last again; on PyTorch and TensorFlow it makes batch normalization of
separate operations in float32, also under mixed precision.
"""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_onecycle")
class Convolution(keras.layers.Conv2D):
    """`keras.layers.Conv2D` of 3x3 with one pixel of zeros on each side, also with strides of two.

    Where a convolution halves an image of even size, Keras's "same" pads on the right and at the
    bottom alone. Its windows would then have their middle on the pixels that the shortcut leaves out;
    in the papers' Caffe, and in PyTorch, it is on those that the shortcut takes.
    """

    def call(self, inputs: Any) -> Any:
        if keras.backend.backend() == "torch":
            import torch

            # Views, not copies.
            images, kernel = inputs.permute(0, 3, 1, 2), self.kernel.value.permute(3, 2, 0, 1)
            outputs = torch.nn.functional.conv2d(images, kernel, None, self.strides, padding=1)
            return outputs.permute(0, 2, 3, 1)
        if self.strides == (1, 1):
            return super().call(inputs)
        padded = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return ops.conv(padded, self.kernel, self.strides, "valid", self.data_format)


@keras.saving.register_keras_serializable(package="keras_onecycle")
class Normalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of images, in one kernel on PyTorch and TensorFlow."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        kernel = {"torch": _torch, "tensorflow": _tensorflow}.get(keras.backend.backend())
        if kernel is None or self.synchronized:
            return super().call(inputs, training=training, mask=mask)
        return kernel(self, inputs, bool(training) and self.trainable)


def _torch(layer: Normalization, inputs: Any, training: bool) -> Any:
    import torch

    outputs = torch.nn.functional.batch_norm(
        inputs.permute(0, 3, 1, 2),
        layer.moving_mean.value,
        layer.moving_variance.value,
        layer.gamma.value,
        layer.beta.value,
        training,
        1 - layer.momentum,
        layer.epsilon,
    )
    return outputs.permute(0, 2, 3, 1)


def _tensorflow(layer: Normalization, inputs: Any, training: bool) -> Any:
    import tensorflow as tf

    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs,
        layer.gamma.value,
        layer.beta.value,
        None if training else layer.moving_mean.value,
        None if training else layer.moving_variance.value,
        layer.epsilon,
        is_training=training,
    )
    if training:
        for average, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            average.assign(average * layer.momentum + new * (1 - layer.momentum))
    return outputs
