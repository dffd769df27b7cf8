"""The result of a range test: the curve, the value that it suggests, its plot and its file."""

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_onecycle import _plotting
from keras_onecycle._arguments import check_choice, check_int
from keras_onecycle.range_tests import _result_file
from keras_onecycle.range_tests._curve_checks import check_lr_curve, check_momentum_curve, noise_of
from keras_onecycle.range_tests._ladder import Ladder, below_best
from keras_onecycle.range_tests._result_file import from_json, to_json
from keras_onecycle.range_tests._smoothing import smooth_both_ways
from keras_onecycle.schedules import RANGE_TEST_MODES
from keras_onecycle.suggestion import (
    DEFAULT,
    DEFAULT_FOR_MOMENTUM,
    SuggestionMethod,
    edge,
    minimum,
    slide,
    stable,
    steep,
    valley,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _Kind:
    """What differs between a range test of the learning rate and one of momentum."""

    moved: str
    label: str
    default: str
    methods: Mapping[str, SuggestionMethod]
    check: Callable[[np.ndarray, np.ndarray, np.ndarray], None]
    skip: bool
    wanted: str
    accepts: Callable[[float], bool]


_LR = _Kind(
    moved="lr",
    label="learning rate",
    default=DEFAULT,
    methods={f.__name__: f for f in (edge, valley, minimum, steep, slide)},
    check=check_lr_curve,
    skip=True,
    wanted="learning rate, a finite number above 0",
    accepts=lambda value: 0 < value < np.inf,
)
_MOMENTUM = _Kind(
    moved="momentum",
    label="momentum",
    default=DEFAULT_FOR_MOMENTUM,
    methods={"stable": stable},
    check=check_momentum_curve,
    skip=False,
    wanted="momentum, a number in [0, 1)",
    accepts=lambda value: 0 <= value < 1,
)


_SHORT_CYCLES = "short_cycles"


def _no_points() -> np.ndarray:
    return np.empty(0)


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
        cycle_loss: Float array of shape `(cycles,)`: the mean training loss of the last fifth of each,
            infinite where it diverged. Defaults to no cycles.

    Raises:
        TypeError: If `val_metrics` is no dict.
        ValueError: If the shapes do not agree, or an array holds something else than numbers.
    """

    lr: np.ndarray
    loss: np.ndarray
    smoothed_loss: np.ndarray
    mode: str = "exponential"
    val_lr: np.ndarray = field(default_factory=_no_points)
    val_loss: np.ndarray = field(default_factory=_no_points)
    val_metrics: Mapping[str, np.ndarray] = field(default_factory=dict)
    momentum: np.ndarray | None = None
    val_momentum: np.ndarray | None = None
    cycle_lr: np.ndarray = field(default_factory=_no_points)
    cycle_loss: np.ndarray = field(default_factory=_no_points)

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, RANGE_TEST_MODES)
        groups = [
            ["lr", "loss", "smoothed_loss"],
            ["val_lr", "val_loss"],
            ["cycle_lr", "cycle_loss"],
        ]
        if self.momentum is not None:
            self.val_momentum = _no_points() if self.val_momentum is None else self.val_momentum
            groups[0].append("momentum")
            groups[1].append("val_momentum")
        elif self.val_momentum is not None:
            raise ValueError(
                "`val_momentum` is for a momentum range test, and needs `momentum`. Received: "
                f"val_momentum={self.val_momentum!r}, momentum=None"
            )
        for names in groups:
            for name in names:
                setattr(self, name, _as_floats(name, getattr(self, name)))
                _check_shape(name, getattr(self, name), getattr(self, names[0]))
        if not isinstance(self.val_metrics, Mapping):
            raise TypeError(
                "`val_metrics` must be a dict of arrays, by the name of the metric. "
                f"Received: val_metrics={self.val_metrics!r}"
            )
        self.val_metrics = {
            name: _as_floats(f"val_metrics[{name!r}]", values)
            for name, values in self.val_metrics.items()
        }
        for name, values in self.val_metrics.items():
            if not values.ndim or len(values) != len(self.val_lr):
                raise ValueError(
                    f"`val_metrics[{name!r}]` must have a value for each of the {len(self.val_lr)} "
                    f"evaluations. Received: shape {values.shape}"
                )

    def __repr__(self) -> str:
        span = ""
        if len(self.lr):
            span = f", {self._kind.moved}={self._tested[0]:.3g}..{self._tested[-1]:.3g}"
            span += "" if self._kind is _LR else f", lr={self.lr[0]:.3g}"
        return f"RangeTestResult(points={len(self.lr)}{span}, mode={self.mode!r})"

    @property
    def _kind(self) -> _Kind:
        return _LR if self.momentum is None else _MOMENTUM

    @property
    def _tested(self) -> np.ndarray:
        return getattr(self, self._kind.moved)

    def suggest(self, method: str | SuggestionMethod = "auto") -> float:
        """Suggests a learning rate, or for a momentum range test a momentum.

        A curve is read as in fastai, without its first tenth and its last five points. Losses that are NaN
        or infinite are ignored. A warning says when the curve does not turn up.

        Args:
            method: `"short_cycles"`, a third of the rate of the best short cycle, or more where that loses a
                twentieth of what the best gains; `"edge"`, a quarter of the rate at which the loss, smoothed
                to both sides, turns up; `"valley"`, `"minimum"`, `"steep"` or `"slide"`, as in fastai; for a
                momentum range test `"stable"`, the largest momentum before the loss turns up; or a function
                of two arrays, learning rates or momenta and smoothed losses, that returns a float. `"steep"`
                and `"slide"` may be far off on noisy curves. Defaults to `"auto"`: `"short_cycles"` where
                there are some, otherwise `"edge"`, or `"stable"`.

        Returns:
            A float, for `OneCycle(max_lr=...)` or for an optimizer's momentum.

        Raises:
            TypeError: If `method` is neither a string nor a function.
            ValueError: If there is no such method, there are too few points, the curve is flat or noise,
                never falls, or has no finite loss; if the function returns no learning rate or momentum.

        References:

        - [Smith, 2015, section 3.3](https://arxiv.org/abs/1506.01186)
        - [Smith, 2018, section 4.3](https://arxiv.org/abs/1803.09820)
        """
        label, function = self._method(method)
        if label == _SHORT_CYCLES:
            return below_best(self.cycle_lr, self.cycle_loss, *start_and_noise(self))
        return self._read_curve(function)

    def _read_curve(self, function: SuggestionMethod) -> float:
        kind = self._kind
        points = slice(None)
        if kind.skip:
            points = slice(len(self.lr) // 10, max(len(self.lr) - 5, 0))
        # Over the whole curve: the divergence at its end, left out below, counts in what is before it.
        curve = smooth_both_ways(self.loss) if function is edge else self.smoothed_loss
        tested, smoothed, loss = self._tested[points], curve[points], self.loss[points]
        # No method takes the logarithm of a learning rate of 0, where a linear test may begin.
        kept = np.isfinite(smoothed) & ((tested > 0) | (kind is not _LR))
        if len(self.lr) and not np.isfinite(self.smoothed_loss).any():
            raise ValueError(
                f"None of the {len(self.lr)} losses is a finite number: the first already is not, so look at "
                "the data and the model."
            )
        kind.check(tested[kept], smoothed[kept], loss[kept])
        suggested = function(tested[kept], smoothed[kept])
        try:
            value = float(suggested)
        except (TypeError, ValueError):
            value = np.nan
        if not kind.accepts(value):
            raise ValueError(
                f"`method` must return a {kind.wanted}. Received: "
                f"method={function!r}, which returned {suggested!r}"
            )
        # A test that ended with a NaN has turned up after the points that are read.
        last = edge(tested[kept][-1:], smoothed[kept][-1:])
        if function is edge and np.isfinite(self.loss[-1]) and value == last:
            warnings.warn(
                "The loss does not turn up before the last five points, so the suggestion may be too low. "
                f"Run the test up to a higher `max_lr`. Received: rates up to {self.lr[-1]:.3g}",
                stacklevel=3,
            )
        return value

    def _method(self, method: str | SuggestionMethod) -> tuple[str, SuggestionMethod]:
        """Returns a method by its name, with the name that a picture gives it."""
        kind = self._kind
        if callable(method):
            return getattr(method, "__name__", "a function"), method
        if method in _LR.methods and kind is not _LR:
            raise ValueError(
                "`method` must suit a momentum range test, and this one suggests a learning rate. "
                f"Leave it out, or pass 'stable' or a function. Received: method={method!r}"
            )
        cycles = [_SHORT_CYCLES] if kind is _LR else []
        check_choice("method", method, (*kind.methods, *cycles, "auto"))
        if method == _SHORT_CYCLES and not len(self.cycle_lr):
            raise ValueError(
                "There are no short cycles in this result: `lr_find` runs them unless it has `cycle_steps=0` "
                f"or the curve suggests no rate to begin at. Received: method={method!r}"
            )
        if method == _SHORT_CYCLES or (method == "auto" and len(self.cycle_lr)):
            return _SHORT_CYCLES, edge
        label = kind.default if method == "auto" else method
        return label, kind.methods[label]

    def plot(
        self,
        ax: "Axes | Sequence[Axes] | None" = None,
        *,
        skip_start: int = 0,
        skip_end: int = 0,
        method: str | SuggestionMethod | None = "auto",
    ) -> "Figure":
        """Draws the loss against the learning rate, or the momentum, and marks the suggestion.

        Beside it, the loss that each short cycle ended with, where there are some.

        Args:
            ax: Matplotlib Axes to draw into, or two for the short cycles too. Defaults to `None`: a new
                figure.
            skip_start: Integer, at least 0: points left out at the start. Defaults to `0`.
            skip_end: Integer, at least 0: points left out at the end. Defaults to `0`.
            method: That of the suggestion, as in `suggest`, or `None` to mark nothing. A curve that
                allows no suggestion is drawn without one. Defaults to `"auto"`.

        Returns:
            The Figure, with a log axis for an exponential test: `result.plot().savefig("lr.png")`
            writes it to a file.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If no points are left to draw, or there is no such method.
        """
        check_int("skip_start", skip_start, 0)
        check_int("skip_end", skip_end, 0)
        if not len(self.lr):
            raise ValueError(
                "The range test has no points to draw: it ended before its first update."
            )
        if skip_start + skip_end >= len(self.lr):
            raise ValueError(
                f"`skip_start` and `skip_end` leave none of the {len(self.lr)} points to draw. "
                f"Received: skip_start={skip_start}, skip_end={skip_end}"
            )
        suggestion = label = None
        if method is not None:
            label, _ = self._method(method)
            # The picture is what shows the user why there is none.
            with contextlib.suppress(ValueError):
                suggestion = self.suggest(method)
        return _plotting.plot_range_test(
            self._tested,
            self.loss,
            smooth_both_ways(self.loss) if self._kind is _LR else self.smoothed_loss,
            mode=self.mode,
            skip_start=skip_start,
            skip_end=skip_end,
            suggestion=suggestion,
            suggestion_label=label,
            val_tested=getattr(self, f"val_{self._kind.moved}"),
            val_loss=self.val_loss,
            cycle_lr=self.cycle_lr,
            cycle_loss=self.cycle_loss,
            name=self._kind.label,
            axes=ax,
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the result to a JSON file, whole or not at all.

        Args:
            path: Path of the file. One that is there is replaced and keeps its mode; a link is followed.

        Raises:
            TypeError: If `path` is no path.
            ValueError: If it is that of a directory.
        """
        _result_file.write(path, "RangeTestResult", self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads what `save` wrote.

        Args:
            path: Path of the file.

        Returns:
            A `RangeTestResult`.

        Raises:
            TypeError: If `path` is no path.
            ValueError: If the file is torn, or holds something else; if it is a directory.
        """
        return _result_file.read(path, "RangeTestResult", cls.from_dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as JSON can hold it, NaN and infinity as strings."""
        names = _ARRAYS if self.momentum is None else [*_ARRAYS, *_OF_MOMENTUM]
        arrays = {name: to_json(getattr(self, name)) for name in names}
        metrics = {name: to_json(values) for name, values in self.val_metrics.items()}
        return {"mode": self.mode, **arrays, "val_metrics": metrics}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Returns the result that `to_dict` was called on."""
        names = [n for n in (*_ARRAYS, *_OF_MOMENTUM) if n in content or n not in _OPTIONAL]
        metrics = {name: from_json(values) for name, values in content["val_metrics"].items()}
        arrays = {name: from_json(content[name]) for name in names}
        return cls(mode=content["mode"], val_metrics=metrics, **arrays)


_ARRAYS = [f.name for f in fields(RangeTestResult) if f.type is np.ndarray]
# In the file of a momentum range test only.
_OF_MOMENTUM = ("momentum", "val_momentum")
# A file may lack them: one of another kind of test, or from before there were short cycles.
_OPTIONAL = (*_OF_MOMENTUM, "cycle_lr", "cycle_loss")


def start_and_noise(result: RangeTestResult) -> tuple[float, float]:
    """Returns the loss before any training, and how much it varies from one batch to the next."""
    loss = result.loss[np.isfinite(result.loss)]
    return float(np.mean(loss[: max(2, len(loss) // 10)])), noise_of(loss)


def ladder_of(result: RangeTestResult) -> Ladder | None:
    """Returns the learning rates of short cycles, which begin where the curve says, if it says anything."""
    try:
        with warnings.catch_warnings():
            # The short cycles go on to higher rates, if need be.
            warnings.simplefilter("ignore")
            return Ladder(result.suggest("edge"))
    except ValueError:
        return None


def _as_floats(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"`{name}` must be an array of numbers. Received: {name}={values!r}"
        ) from error


def _check_shape(name: str, values: np.ndarray, reference: np.ndarray) -> None:
    if values.ndim != 1 or values.shape != reference.shape:
        raise ValueError(
            f"`{name}` must be one-dimensional and as long as the learning rates it belongs to. "
            f"Received: shape {values.shape} beside {reference.shape}"
        )
