"""The momentum range test: as a callback, and in one call."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras

from keras_onecycle._arguments import check_float, check_learning_rate
from keras_onecycle._keras.hyperparameters import check_schedulable
from keras_onecycle.range_tests._engine import RangeTest, run_range_test
from keras_onecycle.range_tests.result import RangeTestResult
from keras_onecycle.schedules import Schedule, interpolate


class MomentumFinder(RangeTest):
    """Runs the momentum range test in `fit`, as `LRFinder` runs that of the learning rate.

    Example:

    >>> x, y = np.random.rand(512, 4), np.random.rand(512, 1)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    >>> finder = keras_onecycle.range_tests.momentum.MomentumFinder(num_steps=50)
    >>> _ = model.fit(x, y, batch_size=8, verbose=0, callbacks=[finder])
    >>> finder.result
    RangeTestResult(points=50, momentum=0.7..0.99, lr=0.01, mode='linear')

    Args:
        start_momentum: As in `momentum_find`. Defaults to `0.7`.
        end_momentum: As in `momentum_find`. Defaults to `0.99`.
        learning_rate: As in `momentum_find`. Defaults to `None`.
        num_steps: As in `LRFinder`, and so are the rest. Defaults to `100`.
        stop_factor: Defaults to `4.0`.
        smoothing: Defaults to `0.9`.
        validation_data: Defaults to `None`.
        validation_freq: Defaults to `None`.
        validation_steps: Defaults to `None`.
        validation_batch_size: Defaults to `None`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range; at the start of `fit`, if the model is not
            built, or its optimizer has no momentum or cannot follow a schedule.
    """

    moved = "momentum"
    function = "momentum_find"

    def __init__(
        self,
        start_momentum: float = 0.7,
        end_momentum: float = 0.99,
        learning_rate: float | None = None,
        num_steps: int = 100,
        stop_factor: float | None = 4.0,
        smoothing: float = 0.9,
        validation_data: Any = None,
        validation_freq: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
    ) -> None:
        super().__init__(
            num_steps=num_steps,
            stop_factor=stop_factor,
            smoothing=smoothing,
            validation_data=validation_data,
            validation_freq=validation_freq,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
        )
        self.start_momentum = check_float("start_momentum", start_momentum, 0, 1, open_high=True)
        self.end_momentum = check_float("end_momentum", end_momentum, 0, 1, open_high=True)
        if self.start_momentum == self.end_momentum:
            raise ValueError(
                "`start_momentum` and `end_momentum` must differ. Received: "
                f"start_momentum={start_momentum!r}, end_momentum={end_momentum!r}"
            )
        self.learning_rate = (
            None if learning_rate is None else check_learning_rate("learning_rate", learning_rate)
        )

    def schedules(self) -> Mapping[str, Schedule]:
        """Returns the momentum and the fixed learning rate as functions of the step."""
        rate = self.learning_rate
        if rate is None:
            rate = check_schedulable(self.model.optimizer).get_config()["learning_rate"]
        momentum = partial(
            interpolate,
            boundaries=[0.0, self.num_steps - 1.0],
            values=[self.start_momentum, self.end_momentum],
        )
        # On a schedule too, so that nothing else moves it meanwhile.
        return {"learning_rate": lambda step: rate, "momentum": momentum}


def momentum_find(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    start_momentum: float = 0.7,
    end_momentum: float = 0.99,
    learning_rate: float | None = None,
    num_steps: int = 100,
    stop_factor: float | None = 4.0,
    smoothing: float = 0.9,
    validation_data: Any = None,
    validation_freq: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    **fit_arguments: Any,
) -> RangeTestResult:
    """Runs the momentum range test on a compiled model and leaves no trace in it.

    Momentum goes linearly from `start_momentum` to `end_momentum`, each update, at a fixed learning
    rate: `momentum` of SGD, RMSprop and Muon, `beta_1` of the Adam family. What `lr_find` says of
    traces and memory holds here too.

    It shows up to which momentum this learning rate trains. That is less than what the range test of
    the learning rate shows: the paper found no best momentum by it, since the loss went on falling
    while momentum rose from 0.7 to 1. It advises a momentum that falls while the learning rate rises,
    as `OneCycle` has it, or trainings with a few values from 0.9 to 0.99.

    A test in which momentum falls shows less still. Velocities take about `1 / (1 - momentum)` updates
    to build up, and when one that is too large does its harm, the test is already past it.

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
        num_steps: Integer, at least 2: optimizer updates from the first to the last. Defaults to
            `100`.
        stop_factor: Float above 1, or `None`, as in `lr_find`: where the test stops. Defaults to
            `4.0`.
        smoothing: Float in [0, 1): the weight of the past in the bias-corrected moving average.
            Defaults to `0.9`, less than in `lr_find`: the average must not lag where the loss turns up.
        validation_data: Data to evaluate along the way, as in `LRFinder`. Defaults to `None`.
        validation_freq: Integer, at least 1: updates from one evaluation to the next. Defaults to
            `None`: so that there are about twenty.
        validation_steps: Integer, at least 1: batches in an evaluation. Defaults to `None`: all.
        validation_batch_size: Integer, at least 1, for validation data in arrays. Defaults to `None`:
            Keras's 32.
        verbose: 0, 1, 2 or `"auto"`, as in `fit`; the bar counts updates. Defaults to `"auto"`.
        callbacks: Further callbacks for `fit`. Defaults to `None`.
        **fit_arguments: What else `fit` takes: `batch_size`, `sample_weight`, `class_weight`,
            `shuffle`, `steps_per_epoch`.

    Returns:
        A `RangeTestResult`, whose `momentum` moves and whose `lr` does not.

    Raises:
        TypeError: If an argument is of the wrong type or unknown to `fit`.
        ValueError: If an argument is out of its range, the model is not compiled, or its optimizer
            has no momentum or cannot follow a schedule.

    References:

    - [Smith, 2018, section 4.3](https://arxiv.org/abs/1803.09820)
    """
    finder = MomentumFinder(
        start_momentum=start_momentum,
        end_momentum=end_momentum,
        learning_rate=learning_rate,
        num_steps=num_steps,
        stop_factor=stop_factor,
        smoothing=smoothing,
        validation_data=validation_data,
        validation_freq=validation_freq,
        validation_steps=validation_steps,
        validation_batch_size=validation_batch_size,
    )
    return run_range_test(
        finder, model, x, y, verbose=verbose, callbacks=callbacks, **fit_arguments
    )
