"""The part of Keras's loss that weight decay as L2 adds to it."""

import keras

from keras_onecycle._keras import backend


def penalty(model: keras.Model) -> float:
    """Returns what the regularizers of the model's weights add to its loss now.

    Keras reports losses with it. It shrinks with the weights whether or not the model learns, so
    losses under several weight decays compare only without it.
    """
    backend.sync(model)
    regularized = [v for v in model.trainable_variables if v.regularizer is not None]
    return sum((float(keras.ops.convert_to_numpy(v.regularizer(v))) for v in regularized), 0.0)
