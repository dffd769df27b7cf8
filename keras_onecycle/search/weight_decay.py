"""Weight decay by range tests of the learning rate, one under each."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_onecycle._arguments import check_float, check_int
from keras_onecycle._keras.penalty import penalty
from keras_onecycle.range_tests._engine import run_range_test
from keras_onecycle.range_tests.learning_rate import LRFinder
from keras_onecycle.search.weight_decay_result import WeightDecayResult

# A penalty that is larger than the loss by this factor leaves two digits of it in float32.
_TOO_LARGE = 1e4


class LRFinderWithoutPenalty(LRFinder):
    """`LRFinder` whose losses are without what the regularizers of the weights add to them.

    Weights that grow until the penalty hides the loss have diverged, and the loss is then NaN.
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._first_loss: float | None = None
        super().on_train_begin(logs)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_begin(batch, logs)
        # The batch's loss is that of the weights before its update.
        self._penalty = penalty(self.model)

    def _loss_of_batch(self, logs: dict[str, Any]) -> float:
        return self._without(self._penalty, super()._loss_of_batch(logs))

    def _evaluate(self) -> dict[str, float]:
        logs = super()._evaluate()
        return {**logs, "loss": self._without(penalty(self.model), logs["loss"])}

    def _without(self, penalty: float, total: float) -> float:
        loss = total - penalty
        if self._first_loss is None:
            self._first_loss = loss
        return loss if penalty <= _TOO_LARGE * abs(self._first_loss) else float("nan")


def weight_decay_find(
    build: Callable[..., keras.Model],
    x: Any = None,
    y: Any = None,
    *,
    weight_decays: Iterable[float] = (1e-3, 1e-4, 1e-5, 0.0),
    seed: int = 0,
    verbose: str | int = "auto",
    **arguments: Any,
) -> WeightDecayResult:
    """Runs the LR range test under each of several weight decays.

    The rule is to take the largest weight decay that still lets a large learning rate train, which the
    result's `suggest` does and its `plot` shows. Losses are without the penalty that L2 in the loss
    adds: it shrinks with the weights, and a weight decay that is far too large would seem to train.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(256, 4))
    >>> def build(weight_decay):
    ...     l2 = keras.regularizers.L2(weight_decay / 2)
    ...     model = keras.Sequential([
    ...         keras.Input((4,)),
    ...         keras.layers.Dense(8, "tanh", kernel_regularizer=l2),
    ...         keras.layers.Dense(1, kernel_regularizer=l2),
    ...     ])
    ...     model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    ...     return model
    >>> result = keras_onecycle.search.weight_decay_find(
    ...     build, x, x.sum(axis=1), weight_decays=[10.0, 1e-3], num_steps=50, batch_size=32, verbose=0
    ... )
    >>> result.suggest()
    0.001

    `L2(weight_decay / 2)`, whose gradient is `weight_decay` times the weights, is what the papers call
    weight decay. That of `SGD(weight_decay=...)` and `AdamW` is apart from the gradient, does not go
    through momentum, and can be found in the same way.

    Args:
        build: Function with an argument `weight_decay` that returns a compiled `keras.Model`. Before
            each call Keras's global seeds are set to `seed`, and they stay so.
        x: What `fit` takes, as in `lr_find`, but no generator. Data that shuffles itself gives each
            curve another order; `fit` shuffles arrays alike for all.
        y: Targets, as `fit` takes them. Defaults to `None`.
        weight_decays: Floats, at least 0, each once. Defaults to those of the paper.
        seed: Integer from 0 to `2**32 - 1`. Defaults to `0`.
        verbose: 0, 1, 2 or `"auto"`, as in `fit`; there is a bar for each test. Defaults to `"auto"`.
        **arguments: What else `lr_find` takes: `min_lr`, `max_lr`, `num_steps` (the more, the finer
            the differences that show), `validation_data`, `batch_size`.

    Returns:
        A `WeightDecayResult`.

    Raises:
        TypeError: If an argument is of the wrong type, `build` does not take `weight_decay` or returns
            something else than a model.
        ValueError: If an argument is out of its range, or the model is not compiled or its optimizer
            cannot follow a schedule.

    References:

    - [Smith, 2018, section 4.4](https://arxiv.org/abs/1803.09820)
    """
    values = _check_weight_decays(weight_decays)
    check_int("seed", seed, 0, 2**32 - 1)
    _check_build(build)
    if hasattr(x, "__next__"):
        raise ValueError(
            "`x` is gone over for each weight decay, which a generator or iterator cannot be. Pass "
            f"arrays, a dataset or a `keras.utils.PyDataset`. Received: x={x!r}"
        )
    names = inspect.signature(LRFinder).parameters
    of_finder = {name: value for name, value in arguments.items() if name in names}
    of_fit = {name: value for name, value in arguments.items() if name not in names}
    # All of them now, so that an argument that is wrong is known before anything trains.
    finders = {weight_decay: LRFinderWithoutPenalty(**of_finder) for weight_decay in values}
    results = {}
    for weight_decay, finder in finders.items():
        keras.utils.set_random_seed(seed)
        model = build(weight_decay=weight_decay)
        if not isinstance(model, keras.Model) or not model.compiled:
            raise TypeError(
                "`build` must return a compiled `keras.Model`. Received: "
                f"build={build!r}, which returned {model!r} for weight_decay={weight_decay!r}"
            )
        if verbose:
            print(f"Weight decay {weight_decay:g}")
        results[weight_decay] = run_range_test(finder, model, x, y, verbose=verbose, **of_fit)
    return WeightDecayResult(results)


def _check_weight_decays(weight_decays: Any) -> list[float]:
    if isinstance(weight_decays, (str, bytes)) or not isinstance(weight_decays, Iterable):
        raise TypeError(
            "`weight_decays` must be a list of numbers. "
            f"Received: weight_decays={weight_decays!r} of type {type(weight_decays).__name__}"
        )
    values = list(weight_decays)
    if not values or len(set(values)) < len(values):
        raise ValueError(
            "`weight_decays` must be one or more numbers, each once. "
            f"Received: weight_decays={values!r}"
        )
    return [check_float(f"weight_decays[{i}]", value, 0) for i, value in enumerate(values)]


def _check_build(build: Any) -> None:
    if not callable(build):
        raise TypeError(
            f"`build` must be a function that returns a compiled model. Received: build={build!r}"
        )
    try:
        inspect.signature(build).bind(weight_decay=0.0)
    except TypeError as error:
        raise TypeError(
            "`build` must take one argument, `weight_decay`, and no other without a default. "
            f"Received: build={build!r}"
        ) from error
