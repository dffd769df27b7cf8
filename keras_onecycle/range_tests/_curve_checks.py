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


def check_lr_curve(lr: np.ndarray, smoothed_loss: np.ndarray, loss: np.ndarray) -> None:
    """Raises a `ValueError` where no learning rate can be read off the curve."""
    if len(lr) < _LEAST_POINTS:
        raise ValueError(
            "A suggestion needs at least 5 finite points, after the first tenth and the last 5 of the "
            f"test are left out. Received: {len(lr)} points. Run the test with more `num_steps`; if it "
            "diverged at once, with a lower `min_lr` or `max_lr`."
        )
    if _is_flat(smoothed_loss):
        raise ValueError(
            "The loss is flat over the whole test, so no learning rate stands out. "
            f"{_remedy(lr, 'look at the data and the model')}. "
            f"Received: losses from {smoothed_loss.min():g} to {smoothed_loss.max():g}"
        )
    if smoothed_loss.min() >= smoothed_loss[0]:
        raise ValueError(
            "The loss never falls below where it starts, so no learning rate trains. Run the test "
            f"from a lower `min_lr`. Received: losses from {smoothed_loss[0]:g} at lr={lr[0]:g}"
        )
    fall, noise = smoothed_loss[0] - smoothed_loss.min(), noise_of(loss)
    if fall < noise:
        raise ValueError(
            f"The smoothed loss falls by {fall:.3g} at most, but single losses vary by {noise:.3g} between "
            "updates, so no learning rate stands out. "
            f"{_remedy(lr, 'run a longer test, such as `lr_find(..., num_steps=500, cycle_steps=200)`')}."
        )


def noise_of(loss: np.ndarray) -> float:
    """Returns the standard deviation of the loss from one update to the next."""
    # Of neighbours, whose difference neither a trend nor the divergence at the end does much to.
    return float(np.median(np.abs(np.diff(loss)))) / _MEDIAN_OF_DIFFERENCES


def _remedy(lr: np.ndarray, remedy: str) -> str:
    """Returns what to do, and where the test ended early, to go on to higher rates."""
    if lr[-1] < _HIGH_ENOUGH:
        return f"Run the test up to a higher `max_lr`, or {remedy}"
    return remedy.capitalize()


def check_momentum_curve(momentum: np.ndarray, smoothed_loss: np.ndarray, loss: np.ndarray) -> None:
    """Raises a `ValueError` where no momentum can be read off the curve."""
    if len(momentum) < _LEAST_POINTS:
        raise ValueError(
            f"A suggestion needs at least 5 finite points. Received: {len(momentum)} points. Run the "
            "test with more `num_steps`; if it diverged at once, with a lower `learning_rate`."
        )
    if _is_flat(smoothed_loss):
        raise ValueError(
            "The loss is flat over the whole test, so no momentum stands out. Run it with a higher "
            f"`learning_rate`. Received: losses from {smoothed_loss.min():g} to {smoothed_loss.max():g}"
        )
    if smoothed_loss.min() >= smoothed_loss[0]:
        raise ValueError(
            "The loss never falls below where it starts, so no momentum trains. Run the test with a "
            f"lower `learning_rate`. Received: losses from {smoothed_loss[0]:g} at momentum={momentum[0]:g}"
        )
    if momentum[0] > momentum[-1] and end_of_rise(smoothed_loss) == len(smoothed_loss) - 1:
        raise ValueError(
            "The loss still rises where the test ends, so no momentum was small enough. Run the test "
            "to a smaller `end_momentum` or with a lower `learning_rate`. Received: losses up to "
            f"{smoothed_loss[-1]:g} at momentum={momentum[-1]:g}"
        )


def _is_flat(loss: np.ndarray) -> bool:
    return np.ptp(loss) <= _FLAT * np.abs(loss).max()
