"""The result of a range test: the curve, the value that it suggests, its plot and its file."""

import contextlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from keras_onecycle import _plotting
from keras_onecycle._arguments import check_choice
from keras_onecycle.range_tests._atomic_write import atomic_write
from keras_onecycle.range_tests._curve_checks import check_curve
from keras_onecycle.range_tests._short_cycles_rule import below_best, start_and_noise
from keras_onecycle.range_tests._smoothing import smooth_both_ways
from keras_onecycle.schedules import RANGE_TEST_MODES
from keras_onecycle.suggestion import SuggestionMethod, edge, minimum, stable, valley

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# By what is tested; the first is the default.
_METHODS = {"learning rate": (edge, valley, minimum), "momentum": (stable,)}
# What a file begins with.
_FORMAT = {"format": "keras_onecycle.RangeTestResult", "version": 1}


@dataclass(eq=False, repr=False)
class RangeTestResult:
    """The result of a range test, as `lr_find` and `momentum_find` return it.

    Example:

    >>> lr = np.logspace(-4, 0, 100)
    >>> loss = 1 + (np.log10(lr) + 1) ** 2
    >>> result = keras_onecycle.RangeTestResult(lr=lr, loss=loss, smoothed_loss=loss)
    >>> round(result.suggest(), 4)
    0.157
    >>> round(result.suggest("minimum"), 4)
    0.0098

    Args:
        lr: Float array of shape `(points,)`: the learning rate of each update.
        loss: Float array of shape `(points,)`: its training loss, the mean over its batches.
        smoothed_loss: Float array of shape `(points,)`: the bias-corrected moving average of `loss`.
        mode: `"exponential"` or `"linear"`, how the learning rate rose (or momentum moved). Defaults
            to `"exponential"`.
        val_lr: Float array of shape `(evaluations,)`: the learning rate of the last update before each
            evaluation on the validation data. Defaults to no points.
        val_loss: Float array of shape `(evaluations,)`: the validation losses. Defaults to no points.
        val_metrics: Dict of float arrays by the name of the metric, of shape `(evaluations, ...)`: metrics
            such as `F1Score()` have one value for each class. Defaults to no metrics.
        momentum: Float array of shape `(points,)`: the momentum of each update of a momentum range
            test, in which `lr` stays the same. Defaults to `None`: a range test of the learning rate.
        val_momentum: Float array of shape `(evaluations,)`, for a momentum range test. Defaults to `None`.
        cycle_lr: Float array of shape `(cycles,)`: the highest learning rate of each short cycle, in the
            order they were run. Defaults to no cycles.
        cycle_loss: Float array of shape `(cycles,)`: the mean training loss of the last two fifths of each,
            infinite where it diverged. Defaults to no cycles.

    Raises:
        ValueError: If the shapes do not agree, or an array holds something else than numbers.
    """

    lr: np.ndarray
    loss: np.ndarray
    smoothed_loss: np.ndarray
    mode: str = "exponential"
    val_lr: np.ndarray = field(default_factory=partial(np.empty, 0))
    val_loss: np.ndarray = field(default_factory=partial(np.empty, 0))
    val_metrics: Mapping[str, np.ndarray] = field(default_factory=dict)
    momentum: np.ndarray | None = None
    val_momentum: np.ndarray | None = None
    cycle_lr: np.ndarray = field(default_factory=partial(np.empty, 0))
    cycle_loss: np.ndarray = field(default_factory=partial(np.empty, 0))

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, RANGE_TEST_MODES)
        for first, *others in (
            ("lr", "loss", "smoothed_loss", "momentum"),
            ("val_lr", "val_loss", "val_momentum"),
            ("cycle_lr", "cycle_loss"),
        ):
            self._make_array(first)
            for name in others:
                if getattr(self, name) is not None:
                    self._make_array(name, like=getattr(self, first))
        self.val_metrics = {
            name: np.asarray(values, dtype=float) for name, values in self.val_metrics.items()
        }

    def _make_array(self, name: str, like: np.ndarray | None = None) -> None:
        values = np.asarray(getattr(self, name), dtype=float)
        setattr(self, name, values)
        if values.ndim != 1 or (like is not None and len(values) != len(like)):
            raise ValueError(
                f"`{name}` must be one-dimensional and as long as the learning rates it belongs to. "
                f"Received: shape {values.shape}"
            )

    def __repr__(self) -> str:
        spans = [
            f"{name}={values[0]:.3g}..{values[-1]:.3g}, "
            for name, values in (("lr", self.lr), ("momentum", self.momentum))
            if values is not None and len(values)
        ]
        cycles = f", cycles={len(self.cycle_lr)}" if len(self.cycle_lr) else ""
        return f"RangeTestResult(points={len(self.lr)}, {''.join(spans)}mode={self.mode!r}{cycles})"

    @property
    def _moved(self) -> str:
        return "learning rate" if self.momentum is None else "momentum"

    def suggest(self, method: str | SuggestionMethod = "auto") -> float:
        """Suggests a learning rate, or for a momentum range test a momentum.

        A curve is read as in fastai, without its first tenth and its last five points. Losses that are NaN
        or infinite are ignored. A warning says when the curve does not turn up.

        Args:
            method: `"short_cycles"`, half of the rate of the best short cycle, or a third where the next
                higher one lost half of its gain; `"edge"`, a quarter of the rate at which the loss, smoothed
                to both sides, turns up; `"valley"` or `"minimum"`, as in fastai; for a momentum range test
                `"stable"`, the largest momentum before the loss turns up; or a function of two arrays,
                learning rates or momenta and smoothed losses, that returns a float. Defaults to `"auto"`:
                `"short_cycles"` where there are some, otherwise `"edge"`, or `"stable"`.

        Returns:
            A float, for `OneCycle(max_lr=...)` or for an optimizer's momentum.

        Raises:
            TypeError: If `method` is neither a string nor a function.
            ValueError: If there is no such method, there are too few points, or the curve is flat, noise or
                never falls.

        References:

        - [Smith, 2015, section 3.3](https://arxiv.org/abs/1506.01186)
        - [Smith, 2018, section 4.3](https://arxiv.org/abs/1803.09820)
        """
        function = self._method(method)
        if function is None:
            return below_best(self.cycle_lr, self.cycle_loss, *start_and_noise(self.loss))
        points = slice(None)
        if self.momentum is None:
            points = slice(len(self.lr) // 10, max(len(self.lr) - 5, 0))
        # Over the whole curve: the divergence at its end, left out below, counts in what is before it.
        curve = smooth_both_ways(self.loss) if function is edge else self.smoothed_loss
        tested = (self.lr if self.momentum is None else self.momentum)[points]
        smoothed, loss = curve[points], self.loss[points]
        # No method takes the logarithm of a learning rate of 0, where a linear test may begin.
        kept = np.isfinite(smoothed) & ((tested > 0) | (self.momentum is not None))
        check_curve(self._moved, tested[kept], smoothed[kept], loss[kept])
        suggested = float(function(tested[kept], smoothed[kept]))
        # A test that ended with a NaN has turned up after the points that are read.
        last = edge(tested[kept][-1:], smoothed[kept][-1:])
        if function is edge and np.isfinite(self.loss[-1]) and suggested == last:
            warnings.warn(
                "The loss does not turn up before the last five points, so the suggestion may be too low. "
                f"Run the test up to a higher `max_lr`. Received: rates up to {self.lr[-1]:.3g}",
                stacklevel=2,
            )
        return suggested

    def _method(self, method: str | SuggestionMethod) -> SuggestionMethod | None:
        """Returns the function that reads the curve; for the short cycles, None."""
        if callable(method):
            return method
        methods: dict[str, SuggestionMethod | None] = {f.__name__: f for f in _METHODS[self._moved]}
        if len(self.cycle_lr):
            methods = {"short_cycles": None, **methods}
        if check_choice("method", method, (*methods, "auto")) == "auto":
            method = next(iter(methods))
        return methods[method]

    def plot(
        self,
        ax: "Axes | Sequence[Axes] | None" = None,
        *,
        method: str | SuggestionMethod | None = "auto",
    ) -> "Figure":
        """Draws the loss against the learning rate, or the momentum, and marks the suggestion.

        Beside it, the loss that each short cycle ended with, where there are some.

        Args:
            ax: Matplotlib Axes to draw into, or two for the short cycles too. Defaults to `None`: a new
                figure.
            method: That of the suggestion, as in `suggest`, or `None` to mark nothing. A curve that
                allows no suggestion is drawn without one. Defaults to `"auto"`.

        Returns:
            The Figure, with a log axis for an exponential test: `result.plot().savefig("lr.png")`
            writes it to a file.

        Raises:
            TypeError: If `method` is neither a string nor a function.
            ValueError: If there is no such method, or the test ended before its first update.
        """
        if not len(self.lr):
            raise ValueError(
                "The range test has no points to draw: it ended before its first update."
            )
        suggestion = None
        if method is not None:
            self._method(method)
            # The picture is what shows the user why there is none.
            with contextlib.suppress(ValueError):
                suggestion = self.suggest(method)
        smoothed = smooth_both_ways(self.loss) if self.momentum is None else self.smoothed_loss
        return _plotting.plot_range_test(self, smoothed, suggestion=suggestion, axes=ax)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the result to a JSON file, whole or not at all.

        Args:
            path: Path of the file. One that is there is replaced and keeps its mode; a link is followed.

        Raises:
            OSError: If the file cannot be written.
        """
        content = {**_FORMAT, **vars(self)}
        atomic_write(path, json.dumps(content, indent=1, default=np.ndarray.tolist))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads what `save` wrote.

        Args:
            path: Path of the file.

        Returns:
            A `RangeTestResult`.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is torn, or holds something else.
        """
        file = Path(path)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if {name: content.pop(name) for name in _FORMAT} != _FORMAT:
                raise ValueError("it is of another format")
            return cls(**content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"The file holds no range test, or may be torn: {error!r}. Run the test again. "
                f"Received: path={path!r}"
            ) from error
