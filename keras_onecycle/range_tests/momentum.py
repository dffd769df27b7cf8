"""The momentum range test: as a callback, and in one call."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras

from keras_onecycle._arguments import check_float
from keras_onecycle._keras.optimizer_traits import default_part, user_value
from keras_onecycle.range_tests._range_test import RangeTest
from keras_onecycle.range_tests._run import run_range_test, split_arguments
from keras_onecycle.range_tests.result import RangeTestResult
from keras_onecycle.schedules import Schedule, interpolate


class _MomentumFinder(RangeTest):
    """Runs the momentum range test in `fit`; the arguments are those of `momentum_find`."""

    moved = "momentum"
    optional = ("momentum",)

    def __init__(
        self,
        start_momentum: float,
        end_momentum: float,
        learning_rate: float | None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.start_momentum = check_float("start_momentum", start_momentum, 0, 1, open_high=True)
        self.end_momentum = check_float("end_momentum", end_momentum, 0, 1, open_high=True)
        if self.start_momentum == self.end_momentum:
            raise ValueError(
                "`start_momentum` and `end_momentum` must differ. Received: "
                f"start_momentum={start_momentum!r}, end_momentum={end_momentum!r}"
            )
        if learning_rate is not None:
            check_float("learning_rate", learning_rate, 0, open_low=True)
        self.learning_rate = learning_rate

    def schedules(self) -> Mapping[str, Schedule]:
        """Returns the momentum and the fixed learning rate as functions of the step."""
        rate = self.learning_rate
        if rate is None:
            rate = user_value(default_part(self.model.optimizer), "learning_rate")
        momentum = partial(
            interpolate,
            boundaries=[0.0, self.num_steps - 1.0],
            values=[self.start_momentum, self.end_momentum],
        )
        # On a schedule too, so that nothing else moves it meanwhile.
        return {"learning_rate": lambda step: rate, "momentum": momentum}


def momentum_find(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    start_momentum: float = 0.7,
    end_momentum: float = 0.99,
    learning_rate: float | None = None,
    smoothing: float = 0.9,
    verbose: str | int = "auto",
    **arguments: Any,
) -> RangeTestResult:
    """Runs the momentum range test on a compiled model and leaves no trace in it.

    Momentum moves linearly from `start_momentum` to `end_momentum` at a fixed learning rate: `momentum` of
    SGD, RMSprop and Muon, `beta_1` of the Adam family. The model is left as `lr_find` leaves it.

    The test shows up to which momentum this learning rate trains, but not which momentum is best: in
    the paper the loss kept falling while momentum rose from 0.7 to 1. The paper advises a momentum that
    falls while the learning rate rises, as in `OneCycle`, or trainings with values from 0.9 to 0.99.

    Example:

    >>> keras.utils.set_random_seed(0)
    >>> x = np.random.rand(64, 4)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss="mse")
    >>> result = keras_onecycle.momentum_find(model, x, x.sum(axis=1), batch_size=8, verbose=0)
    >>> bool(0.7 < result.suggest() < 1)
    True

    Args:
        model: A compiled `keras.Model`, whose optimizer has a momentum above 0.
        x: What `fit` takes, as in `lr_find`.
        y: Targets, as `fit` takes them. Defaults to `None`.
        start_momentum: Float in [0, 1), the first momentum. Defaults to `0.7`.
        end_momentum: Float in [0, 1), the last momentum: above the first, or below it for a test in
            which momentum falls. Defaults to `0.99`.
        learning_rate: Float above 0, for this test alone. Defaults to `None`: the optimizer's own.
        smoothing: Float in [0, 1): the weight of the past in the moving average `smoothed_loss`. Defaults
            to `0.9`, less than in `lr_find`, so that the average does not lag when the loss turns up.
        verbose: 0, 1, 2 or `"auto"`, as in `fit`; the bar counts updates. Defaults to `"auto"`.
        **arguments: Other arguments of `lr_find`: `num_steps`, `stop_factor`, those of the validation,
            `callbacks`, and arguments of `fit`.

    Returns:
        A `RangeTestResult`, whose `momentum` moves and whose `lr` does not.

    Raises:
        TypeError: If an argument is unknown or of the wrong type.
        ValueError: If an argument is out of its range, the model is not compiled, or its optimizer
            has no momentum or cannot follow a schedule.

    References:

    - [Smith, 2018, section 4.3](https://arxiv.org/abs/1803.09820)
    """
    of_test, of_fit = split_arguments(momentum_find, RangeTest, arguments)
    finder = _MomentumFinder(
        start_momentum, end_momentum, learning_rate, smoothing=smoothing, **of_test
    )
    return run_range_test(finder, model, x, y, verbose=verbose, **of_fit)
