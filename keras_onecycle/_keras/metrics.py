"""What Keras counts beside the loss of a batch."""

import keras


def samples_counter(model: keras.Model) -> keras.Variable | None:
    """Returns the variable that counts the samples of the loss since the last reset, or None."""
    for metric in model.metrics:
        if isinstance(metric, keras.metrics.Mean) and metric.name == "loss":
            return metric.count
    return None
