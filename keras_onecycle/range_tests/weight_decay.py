"""Weight decay by range tests of the learning rate, one under each: the call, the rule and the picture."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_onecycle import _plotting
from keras_onecycle._arguments import check_compiled, check_float, check_int
from keras_onecycle._keras.loss_parts import penalty
from keras_onecycle.range_tests._run import run_range_test, split_arguments
from keras_onecycle.range_tests.learning_rate import LRFinder
from keras_onecycle.range_tests.result import RangeTestResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A penalty that is larger than the loss by this factor leaves two digits of it in float32.
_TOO_LARGE = 1e4
# Of the largest descent, and of the largest learning rate that trains, so much is enough.
_DESCENT, _ENOUGH = 0.95, 0.5


@dataclass(eq=False)
class WeightDecayResult:
    """The result of `keras_onecycle.weight_decay_find`.

    Example:

    >>> lr = np.logspace(-4, 0, 100)
    >>> def curve(lowest):
    ...     loss = 2 - (2 - lowest) * np.exp(-(np.log10(lr / 0.1) ** 2))
    ...     return keras_onecycle.RangeTestResult(lr=lr, loss=loss, smoothed_loss=loss)
    >>> result = keras_onecycle.WeightDecayResult({1e-2: curve(1.7), 1e-4: curve(0.5)})
    >>> result.suggest()
    0.0001
    >>> {weight_decay: round(lr, 3) for weight_decay, lr in result.reach().items()}
    {0.01: 0.0, 0.0001: 0.156}

    Args:
        results: Dict of `RangeTestResult` by weight decay, in the order of the picture.
    """

    results: Mapping[float, RangeTestResult]

    def reach(self) -> dict[float, float]:
        """Returns the largest learning rate that trains under each weight decay.

        One trains if the smoothed loss has fallen by 95% of the largest fall with any weight decay.

        Returns:
            Dict of the largest such learning rate by weight decay, or 0.0 where there is none.

        Raises:
            ValueError: If the loss falls under no weight decay.
        """
        curves = {weight_decay: _descent(result) for weight_decay, result in self.results.items()}
        most = max(fallen.max(initial=0.0) for _, fallen in curves.values())
        if not most:
            raise ValueError(
                "The loss falls under no weight decay, so none trains. Run the tests from a lower "
                "`min_lr` to a higher `max_lr`, or with more `num_steps`. "
                f"Received: weight_decays={list(self.results)}"
            )
        return {
            weight_decay: float(lr[fallen >= _DESCENT * most].max(initial=0.0))
            for weight_decay, (lr, fallen) in curves.items()
        }

    def suggest(self) -> float:
        """Returns the largest weight decay that still lets a large learning rate train.

        That is one of at least half of the largest `reach`. Take it as an upper bound: a range test is too
        short to show the whole effect of weight decay, and a third or a tenth of it may train best. Use
        `grid_search` to find out.

        Returns:
            A float, one of the weight decays.

        Raises:
            ValueError: If the loss falls under no weight decay, or all curves are the same.

        References:

        - [Smith, 2018, section 4.4](https://arxiv.org/abs/1803.09820)
        - [Gugger, 2018](https://sgugger.github.io/the-1cycle-policy.html), for the rule
        """
        reach = self.reach()
        first, *others = (result.loss for result in self.results.values())
        if others and all(np.array_equal(first, other, equal_nan=True) for other in others):
            raise ValueError(
                "All curves are the same to the last bit, so `build` makes no use of `weight_decay`. "
                f"Received: weight_decays={list(self.results)}"
            )
        enough = _ENOUGH * max(reach.values())
        return max(weight_decay for weight_decay, lr in reach.items() if lr >= enough)

    def plot(self, ax: "Axes | None" = None) -> "Figure":
        """Draws the smoothed loss under each weight decay against the learning rate.

        Validation losses are dots in the color of their curve. The legend marks the suggestion, if the
        curves allow one.

        Args:
            ax: Matplotlib Axes to draw into. Defaults to `None`: a new figure.

        Returns:
            The Figure, with a log axis for exponential tests.
        """
        suggested = None
        # The plot shows the user why there is none.
        with contextlib.suppress(ValueError):
            suggested = self.suggest()
        results = {
            f"{weight_decay:g}{' (suggested)' if weight_decay == suggested else ''}": result
            for weight_decay, result in self.results.items()
        }
        return _plotting.plot_weight_decays(results, ax)


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
    x: Any,
    y: Any = None,
    *,
    weight_decays: Iterable[float] = (1e-3, 1e-4, 1e-5, 0.0),
    seed: int = 0,
    verbose: str | int = "auto",
    **arguments: Any,
) -> WeightDecayResult:
    """Runs the LR range test under each of several weight decays.

    The largest weight decay that still lets a large learning rate train is an upper bound: the result's
    `suggest` returns it, and `plot` shows it. Losses leave out the penalty of L2: it shrinks with the
    weights, so a weight decay that is far too large would seem to train.

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
    >>> result = keras_onecycle.weight_decay_find(
    ...     build, x, x.sum(axis=1), weight_decays=[10.0, 1e-3], num_steps=50, batch_size=32, verbose=0
    ... )
    >>> result.suggest()
    0.001

    The weight decay of the papers is `L2(weight_decay / 2)`, whose gradient is `weight_decay` times the
    weights. That of `SGD(weight_decay=...)` and `AdamW` can be tested in the same way.

    Args:
        build: Function with an argument `weight_decay` that returns a compiled `keras.Model`. Before
            each call Keras's global seeds are set to `seed`, and they stay so.
        x: What `fit` takes, except a generator. Arrays are shuffled alike for all curves.
        y: Targets, as `fit` takes them. Defaults to `None`.
        weight_decays: Floats, at least 0, each once. Defaults to those of the paper.
        seed: Integer from 0 to `2**32 - 1`. Defaults to `0`.
        verbose: 0, 1, 2 or `"auto"`, as in `fit`; there is a bar for each test. Defaults to `"auto"`.
        **arguments: Other arguments of `lr_find`: `min_lr`, `max_lr`, `num_steps` (more show finer
            differences), `validation_data`, `batch_size`.

    Returns:
        A `WeightDecayResult`.

    Raises:
        TypeError: If an argument is of the wrong type, or `build` does not take `weight_decay` or does not
            return a compiled model.
        ValueError: If an argument is out of its range, or the optimizer cannot follow a schedule.

    References:

    - [Smith, 2018, section 4.4](https://arxiv.org/abs/1803.09820)
    """
    values = [check_float("weight_decays", value, 0) for value in weight_decays]
    if not values or len(set(values)) < len(values):
        raise ValueError(
            "`weight_decays` must be one or more numbers, each once. "
            f"Received: weight_decays={weight_decays!r}"
        )
    check_int("seed", seed, 0, 2**32 - 1)
    if hasattr(x, "__next__"):
        raise ValueError(
            "`x` is read once for each weight decay, but a generator or iterator only once in all. Pass "
            f"arrays, a dataset or a `keras.utils.PyDataset`. Received: x={x!r}"
        )
    of_test, of_fit = split_arguments(weight_decay_find, LRFinder, arguments)
    # All of them now, so that an argument that is wrong is known before anything trains.
    finders = {weight_decay: LRFinderWithoutPenalty(**of_test) for weight_decay in values}
    results = {}
    for weight_decay, finder in finders.items():
        keras.utils.set_random_seed(seed)
        model = check_compiled("build(...)", build(weight_decay=weight_decay))
        if verbose:
            print(f"Weight decay {weight_decay:g}")
        results[weight_decay] = run_range_test(finder, model, x, y, verbose=verbose, **of_fit)
    return WeightDecayResult(results)


def _descent(result: RangeTestResult) -> tuple[np.ndarray, np.ndarray]:
    """Learning rates up to the first NaN, and how far the loss is down from its start."""
    finite = np.logical_and.accumulate(np.isfinite(result.smoothed_loss))
    loss = result.smoothed_loss[finite]
    return result.lr[finite], loss[:1] - loss
