"""What a range test saw: the curve, the learning rate it suggests, its picture and its file."""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_onecycle import plotting
from keras_onecycle.arguments import check_choice, check_int
from keras_onecycle.schedules import RANGE_TEST_MODES
from keras_onecycle.suggestion import METHODS, SuggestionMethod, check_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FORMAT = "keras_onecycle.RangeTestResult"
_VERSION = 1


def _no_points() -> np.ndarray:
    return np.empty(0)


@dataclass(eq=False, repr=False)
class RangeTestResult:
    """The result of a range test, as `lr_find` returns it and `LRFinder.result` holds it.

    Example:

    >>> lr = np.logspace(-4, 0, 100)
    >>> loss = 1 + (np.log10(lr) + 1) ** 2
    >>> result = keras_onecycle.RangeTestResult(lr=lr, loss=loss, smoothed_loss=loss)
    >>> round(result.suggest(), 4)
    0.0041
    >>> round(result.suggest("minimum"), 4)
    0.0098

    Args:
        lr: Float array of shape `(points,)`: the learning rate of each update.
        loss: Float array of shape `(points,)`: its training loss, the mean over its batches.
        smoothed_loss: Float array of shape `(points,)`: the bias-corrected moving average of `loss`.
        mode: `"exponential"` or `"linear"`, how the learning rate rose. Defaults to `"exponential"`.
        val_lr: Float array of shape `(evaluations,)`: the learning rates after whose update the
            validation data was evaluated. Defaults to no points.
        val_loss: Float array of shape `(evaluations,)`. Defaults to no points.
        val_metrics: Dict of float arrays of shape `(evaluations,)`, by the metric's name. Defaults to
            no metrics.

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

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, RANGE_TEST_MODES)
        for names in (("lr", "loss", "smoothed_loss"), ("val_lr", "val_loss")):
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
            _check_shape(f"val_metrics[{name!r}]", values, self.val_lr)

    def __repr__(self) -> str:
        span = f", lr={self.lr[0]:.3g}..{self.lr[-1]:.3g}" if len(self.lr) else ""
        return f"RangeTestResult(points={len(self.lr)}{span}, mode={self.mode!r})"

    def suggest(self, method: str | SuggestionMethod = "valley") -> float:
        """Returns a learning rate read off the smoothed curve.

        As in fastai, the first tenth of the curve and its last five points are left out, and so is
        all that follows a NaN.

        Args:
            method: `"valley"` (half way down the longest descent), `"steep"` (the steepest descent),
                `"minimum"` (a tenth of where the loss is lowest), `"slide"` (where the slope has
                settled), or a function of two arrays, learning rates and losses, that returns a
                float. Defaults to `"valley"`.

        Returns:
            A float, for `OneCycle(max_lr=...)`.

        Raises:
            TypeError: If `method` is neither a string nor a function.
            ValueError: If there is no such method, there are too few points, the curve is flat,
                never falls, or is all NaN; if the function returns no learning rate.

        References:

        - [Smith, 2015, section 3.3](https://arxiv.org/abs/1506.01186)
        """
        if not callable(method):
            method = METHODS[check_choice("method", method, tuple(METHODS))]
        points = slice(len(self.lr) // 10, max(len(self.lr) - 5, 0))
        lr, loss = self.lr[points], self.smoothed_loss[points]
        finite = np.logical_and.accumulate(np.isfinite(loss))
        kept = finite & (lr > 0)
        check_curve(lr[kept], loss[kept])
        suggested = method(lr[kept], loss[kept])
        try:
            rate = float(suggested)
        except (TypeError, ValueError):
            rate = np.nan
        if not (np.isfinite(rate) and rate > 0):
            raise ValueError(
                "`method` must return a learning rate, a finite number above 0. Received: "
                f"method={method!r}, which returned {suggested!r}"
            )
        return rate

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        skip_start: int = 0,
        skip_end: int = 0,
        suggest: str | SuggestionMethod | None = "valley",
    ) -> "Axes":
        """Draws the loss against the learning rate and marks the suggestion.

        Args:
            ax: Matplotlib Axes to draw into. Defaults to `None`: a new figure.
            skip_start: Integer, at least 0: points left out at the start. Defaults to `0`.
            skip_end: Integer, at least 0: points left out at the end. Defaults to `0`.
            suggest: What `suggest` takes, or `None` to mark nothing. A curve that allows no
                suggestion is drawn without one. Defaults to `"valley"`.

        Returns:
            The Axes, with a log axis for an exponential test.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If no points are left to draw, or there is no such method.
        """
        check_int("skip_start", skip_start, 0)
        check_int("skip_end", skip_end, 0)
        if skip_start + skip_end >= len(self.lr):
            raise ValueError(
                f"`skip_start` and `skip_end` leave none of the {len(self.lr)} points to draw. "
                f"Received: skip_start={skip_start}, skip_end={skip_end}"
            )
        suggestion = None
        if suggest is not None:
            if not callable(suggest):
                check_choice("suggest", suggest, tuple(METHODS))
            # The picture is what shows the user why there is none.
            with contextlib.suppress(ValueError):
                suggestion = self.suggest(suggest)
        label = suggest if isinstance(suggest, str) else getattr(suggest, "__name__", "suggestion")
        return plotting.plot_range_test(
            self.lr,
            self.loss,
            self.smoothed_loss,
            mode=self.mode,
            skip_start=skip_start,
            skip_end=skip_end,
            suggestion=suggestion,
            suggestion_label=label,
            val_lr=self.val_lr,
            val_loss=self.val_loss,
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
        file = _check_path(path)
        content: dict[str, Any] = {"format": _FORMAT, "version": _VERSION, "mode": self.mode}
        content |= {name: _to_json(getattr(self, name)) for name in _ARRAYS}
        content["val_metrics"] = {name: _to_json(v) for name, v in self.val_metrics.items()}
        partial = file.with_name(file.name + ".partial")
        partial.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
        partial.replace(file)

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
        file = _check_path(path)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                "The file is no JSON that can be read; it may be torn. Run the range test again. "
                f"Received: path={path!r}"
            ) from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(
                f"The file holds no range test: its `format` should be {_FORMAT!r}. Received: path={path!r}"
            )
        if content.get("version") != _VERSION:
            raise ValueError(
                f"The file is of another version of the format than {_VERSION}. "
                f"Received: version={content.get('version')!r}, path={path!r}"
            )
        try:
            return cls(
                mode=content["mode"],
                val_metrics={n: _from_json(v) for n, v in content["val_metrics"].items()},
                **{name: _from_json(content[name]) for name in _ARRAYS},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"The range test in the file is not whole: {error!r}. Received: path={path!r}"
            ) from error


_ARRAYS = [f.name for f in fields(RangeTestResult) if f.type is np.ndarray]


def _as_floats(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"`{name}` must be an array of numbers. Received: {name}={values!r}"
        ) from error


def _check_path(path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"`path` must be a string or a path. Received: path={path!r} of type {type(path).__name__}"
        )
    if Path(path).is_dir():
        raise ValueError(f"`path` must be that of a file. Received: path={path!r}, a directory")
    return Path(path)


def _check_shape(name: str, values: np.ndarray, reference: np.ndarray) -> None:
    if values.ndim != 1 or values.shape != reference.shape:
        raise ValueError(
            f"`{name}` must be one-dimensional and as long as the learning rates it belongs to. "
            f"Received: shape {values.shape} beside {reference.shape}"
        )


def _to_json(values: np.ndarray) -> list[float | str]:
    # JSON has no NaN and no infinity; Python reads these strings back.
    return [value if np.isfinite(value) else str(value) for value in values.tolist()]


def _from_json(values: list[float | str]) -> np.ndarray:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list of numbers")
    return np.array([float(value) for value in values])
