"""What Keras's loss is made of: the penalty of the regularizers, and the samples it is the mean of."""

import keras

from keras_onecycle._keras import backend


def penalty(model: keras.Model) -> float:
    """Returns what the regularizers of the model's weights add to its loss now.

    Keras reports losses with it. It shrinks with the weights whether or not the model learns, so
    losses under several weight decays compare only without it.
    """
    backend.sync(model)
    regularized = [v for v in model.trainable_variables if v.regularizer is not None]
    return sum((backend.to_number(v.regularizer(v)) for v in regularized), 0.0)


def samples_counter(model: keras.Model) -> keras.Variable | None:
    """Returns the variable that counts the samples of the loss since the last reset, or None."""
    for metric in model.metrics:
        if isinstance(metric, keras.metrics.Mean) and metric.name == "loss":
            return metric.count
    return None
