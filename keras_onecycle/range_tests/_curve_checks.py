"""Whether a value can be read off the curve of a range test at all."""

import numpy as np

from keras_onecycle.suggestion import end_of_rise

# A curve that varies by less, relative to itself, is float32 noise.
_FLAT = 1e-6

_LEAST_POINTS = 5

# Past this learning rate a higher one shows nothing new.
_HIGH_ENOUGH = 1.0

# Of the absolute difference of two normal values with a standard deviation of 1.
_MEDIAN_OF_DIFFERENCES = 0.954


def check_curve(name: str, tested: np.ndarray, smoothed_loss: np.ndarray, loss: np.ndarray) -> None:
    """Raises a `ValueError` where no learning rate, or no momentum, can be read off the curve.

    Args:
        name: `"learning rate"` or `"momentum"`.
        tested: Float array of shape `(points,)`.
        smoothed_loss: Float array of shape `(points,)`.
        loss: Float array of shape `(points,)`.
    """
    if len(tested) < _LEAST_POINTS:
        raise ValueError(
            "A suggestion needs at least 5 finite losses (of learning rates, without the first tenth and the "
            f"last 5). Received: {len(tested)} points. Run the test with more `num_steps`; if it diverged at "
            "once, at lower learning rates; if no loss was ever finite, look at the data and the model."
        )
    if np.ptp(smoothed_loss) <= _FLAT * np.abs(smoothed_loss).max():
        raise ValueError(
            f"The loss is flat over the whole test, so no {name} stands out. "
            f"{_remedy(tested, 'look at the data and the model')}. "
            f"Received: losses from {smoothed_loss.min():g} to {smoothed_loss.max():g}"
        )
    if smoothed_loss.min() >= smoothed_loss[0]:
        raise ValueError(
            f"The loss never falls below where it starts, so no {name} trains. Run the test at lower "
            f"learning rates. Received: losses from {smoothed_loss[0]:g} at a {name} of {tested[0]:g}"
        )
    if name == "momentum":
        if tested[0] > tested[-1] and end_of_rise(smoothed_loss) == len(smoothed_loss) - 1:
            raise ValueError(
                "The loss still rises where the test ends, so no momentum was small enough. Run the test to "
                "a smaller `end_momentum` or at a lower `learning_rate`. Received: losses up to "
                f"{smoothed_loss[-1]:g} at a momentum of {tested[-1]:g}"
            )
        return
    fall, noise = smoothed_loss[0] - smoothed_loss.min(), noise_of(loss)
    if fall < noise:
        raise ValueError(
            f"The smoothed loss falls by {fall:.3g} at most, but single losses vary by {noise:.3g} between "
            "updates, so no learning rate stands out. "
            f"{_remedy(tested, 'run a longer test, such as `lr_find(..., num_steps=500)`')}."
        )


def noise_of(loss: np.ndarray) -> float:
    """Returns the standard deviation of the loss from one update to the next."""
    # Of neighbours, whose difference neither a trend nor the divergence at the end does much to.
    return float(np.median(np.abs(np.diff(loss)))) / _MEDIAN_OF_DIFFERENCES


def _remedy(tested: np.ndarray, remedy: str) -> str:
    """Returns what to do, and where the test ended early, to go on to higher rates."""
    if tested[-1] < _HIGH_ENOUGH:
        return f"Run the test at higher learning rates, or {remedy}"
    return remedy.capitalize()
