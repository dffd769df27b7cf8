"""What range tests under several weight decays saw: the curves, the rule, the picture and the file."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_onecycle import _plotting, _result_file
from keras_onecycle._arguments import check_float
from keras_onecycle.range_tests.result import RangeTestResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A descent by less, relative to the loss, is float32 noise.
_FLAT = 1e-6


@dataclass(eq=False)
class WeightDecayResult:
    """The result of `search.weight_decay_find`.

    Example:

    >>> lr = np.logspace(-4, 0, 100)
    >>> def curve(lowest):
    ...     loss = 2 - (2 - lowest) * np.exp(-(np.log10(lr / 0.1) ** 2))
    ...     return keras_onecycle.RangeTestResult(lr=lr, loss=loss, smoothed_loss=loss)
    >>> result = keras_onecycle.search.WeightDecayResult({1e-2: curve(1.7), 1e-4: curve(0.5)})
    >>> result.suggest()
    0.0001
    >>> {weight_decay: round(lr, 3) for weight_decay, lr in result.reach().items()}
    {0.01: 0.0, 0.0001: 0.156}

    Args:
        results: Dict of `RangeTestResult` by weight decay, in the order of the picture.

    Raises:
        TypeError: If `results` is no dict of range tests of the learning rate.
        ValueError: If it is empty, or a weight decay is negative.
    """

    results: Mapping[float, RangeTestResult]

    def __post_init__(self) -> None:
        is_dict = isinstance(self.results, Mapping)
        if not is_dict or not all(
            isinstance(result, RangeTestResult) and result.momentum is None
            for result in self.results.values()
        ):
            raise TypeError(
                "`results` must be a dict of range tests of the learning rate, by weight decay. "
                f"Received: results={self.results!r}"
            )
        if not self.results:
            raise ValueError("`results` must hold a range test. Received: results={}")
        self.results = {
            check_float("weight_decay", weight_decay, 0): result
            for weight_decay, result in self.results.items()
        }

    def reach(self, descent: float = 0.95) -> dict[float, float]:
        """Returns up to which learning rate each weight decay trains.

        Args:
            descent: Float in (0, 1]: a learning rate trains if the smoothed loss is down from its start
                by at least this fraction of the most that it is under any weight decay. Defaults to
                `0.95`.

        Returns:
            Dict of the largest such learning rate by weight decay, or 0.0 where there is none.

        Raises:
            TypeError: If `descent` is no number.
            ValueError: If it is out of its range, or the loss falls under no weight decay.
        """
        check_float("descent", descent, 0, 1, open_low=True)
        curves = {weight_decay: _descent(result) for weight_decay, result in self.results.items()}
        most = max(fallen.max(initial=0.0) for _, fallen, _ in curves.values())
        if most <= _FLAT * max(np.abs(start).max(initial=0.0) for *_, start in curves.values()):
            raise ValueError(
                "The loss falls under no weight decay, so none trains. Run the tests from a lower "
                "`min_lr` to a higher `max_lr`, or with more `num_steps`. "
                f"Received: weight_decays={list(self.results)}"
            )
        return {
            weight_decay: float(lr[fallen >= descent * most].max(initial=0.0))
            for weight_decay, (lr, fallen, _) in curves.items()
        }

    def suggest(self, descent: float = 0.95, tolerance: float = 0.5) -> float:
        """Returns the largest weight decay that still lets a large learning rate train.

        That is one which trains (see `reach`) up to a learning rate not far below the largest that any
        trains up to. Take it as a bound: a range test is over before all that weight decay does is to be
        seen, and trainings may do best with a third or a tenth of it. `grid_search` tells.

        Args:
            descent: Float in (0, 1], as in `reach`. Defaults to `0.95`.
            tolerance: Float in (0, 1]: how far below, as a fraction of the largest. Defaults to `0.5`.

        Returns:
            A float, one of the weight decays.

        Raises:
            TypeError: If an argument is no number.
            ValueError: If an argument is out of its range, the loss falls under no weight decay, or
                all curves are the same.

        References:

        - [Smith, 2018, section 4.4](https://arxiv.org/abs/1803.09820)
        - [Gugger, 2018](https://sgugger.github.io/the-1cycle-policy.html), for the rule
        """
        check_float("tolerance", tolerance, 0, 1, open_low=True)
        reach = self.reach(descent)
        first, *others = (result.loss for result in self.results.values())
        if others and all(np.array_equal(first, other, equal_nan=True) for other in others):
            raise ValueError(
                "All curves are the same to the last bit, so `build` makes no use of `weight_decay`. "
                f"Received: weight_decays={list(self.results)}"
            )
        enough = tolerance * max(reach.values())
        return max(weight_decay for weight_decay, lr in reach.items() if lr >= enough)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the smoothed loss under each weight decay against the learning rate.

        Validation losses are dots in the color of their curve. The legend marks the suggestion, if the
        curves allow one.

        Args:
            ax: Matplotlib Axes to draw into. Defaults to `None`: a new figure.

        Returns:
            The Axes, with a log axis for exponential tests.
        """
        suggested = None
        # The picture is what shows the user why there is none.
        with contextlib.suppress(ValueError):
            suggested = self.suggest()
        labels = {w: f"{w:g}{' (suggested)' if w == suggested else ''}" for w in self.results}
        results = {labels[weight_decay]: result for weight_decay, result in self.results.items()}
        return _plotting.plot_curves(
            {label: (result.lr, result.smoothed_loss) for label, result in results.items()},
            {label: (result.val_lr, result.val_loss) for label, result in results.items()},
            title="weight decay",
            log=any(result.mode == "exponential" for result in results.values()),
            ax=ax,
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the result to a JSON file, whole or not at all.

        Args:
            path: Path of the file; one that is there is replaced.

        Raises:
            TypeError: If `path` is no path.
            ValueError: If it is that of a directory.
        """
        tests = [{"weight_decay": w, "range_test": r.to_dict()} for w, r in self.results.items()]
        _result_file.write(path, "WeightDecayResult", {"results": tests})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads what `save` wrote.

        Args:
            path: Path of the file.

        Returns:
            A `WeightDecayResult`.

        Raises:
            TypeError: If `path` is no path.
            ValueError: If the file is torn, or holds something else; if it is a directory.
        """

        def make(content: dict[str, Any]) -> Self:
            tests = content["results"]
            return cls(
                {t["weight_decay"]: RangeTestResult.from_dict(t["range_test"]) for t in tests}
            )

        return _result_file.read(path, "WeightDecayResult", make)


def _descent(result: RangeTestResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Learning rates up to the first NaN, how far the loss is down from its start, and the start."""
    finite = np.logical_and.accumulate(np.isfinite(result.smoothed_loss))
    loss = result.smoothed_loss[finite]
    return result.lr[finite], loss[:1] - loss, loss[:1]
