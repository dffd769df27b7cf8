"""Every plot. Matplotlib is imported when one is drawn, and needs no display."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from keras_onecycle.range_tests.result import RangeTestResult

_STYLE = "keras_onecycle.onecycle"
# Of the style, by what they stand for.
_BLUE, _RED, _GREEN = "#0072B2", "#D55E00", "#009E73"
_LABELS = {"learning_rate": "learning rate"}
_COLORS = {"learning_rate": _BLUE, "momentum": _RED}


def _panels(
    axes: "Sequence[Axes] | None",
    wanted: Sequence[str] = ("",),
    size: tuple[float, float] = (6.5, 4),
) -> "list[Axes]":
    """Returns Axes for the panels: the user's, or those of a new figure, side by side."""
    if axes is None:
        import matplotlib
        import matplotlib.pyplot as plt

        with plt.style.context(_STYLE):
            _, new = plt.subplots(1, len(wanted), figsize=size, squeeze=False)
            interactive = matplotlib.is_interactive()
        # The first figure of a notebook turns it on, and the end of the style would turn it off again.
        matplotlib.interactive(interactive)
        return list(new[0])
    given = list(np.ravel(np.asarray(axes, dtype=object)))
    if len(given) < len(wanted):
        raise ValueError(
            f"`axes` must hold {len(wanted)} Axes, one for each of {', '.join(wanted)}. "
            f"Received: axes of length {len(given)}"
        )
    return given[: len(wanted)]


def _figure_of(ax: "Axes") -> "Figure":
    # The figure of a SubFigure is the whole, which can be saved.
    return ax.figure.figure


def plot_steps(
    values: Mapping[str, np.ndarray],
    axes: "Sequence[Axes] | None" = None,
    *,
    first_step: int = 0,
) -> "Figure":
    """Draws each hyperparameter against the step, a panel each, into `axes` or a new figure."""
    axes = _panels(axes, list(values), (5.0 * len(values), 3.5))
    for ax, (name, series) in zip(axes, values.items(), strict=True):
        ax.plot(first_step + np.arange(len(series)), series, "-", color=_COLORS.get(name))
        ax.set_xlabel("step (optimizer updates)")
        ax.set_ylabel(_LABELS.get(name, name))
    return _figure_of(axes[0])


def plot_range_test(
    result: "RangeTestResult",
    smoothed_loss: np.ndarray,
    *,
    suggestion: float | None,
    axes: "Axes | Sequence[Axes] | None",
) -> "Figure":
    """Draws loss against what was tested, with the suggestion marked, into `axes` or a new figure."""
    name, x, val_x = (
        ("learning rate", result.lr, result.val_lr)
        if result.momentum is None
        else ("momentum", result.momentum, result.val_momentum)
    )
    given: Any = axes
    several = len(result.cycle_lr) and (axes is None or np.size(given) > 1)
    wanted = ["range test", "short_cycles"] if several else ["range test"]
    ax, *others = _panels(given, wanted, (10, 4) if several else (6.5, 4))
    ax.plot(x, result.loss, "-", color=_BLUE, alpha=0.3, label="each update")
    ax.plot(x, smoothed_loss, "-", color=_BLUE, label="smoothed")
    if len(result.val_loss) and val_x is not None:
        ax.plot(val_x, result.val_loss, "o-", color=_GREEN, label="validation loss")
    if suggestion is not None:
        ax.axvline(suggestion, color=_RED, linestyle="--", label=f"suggested: {suggestion:.3g}")
    if result.mode == "exponential":
        ax.set_xscale("log")
    # The descent is what one looks at: a divergence goes out of the picture at the top.
    curve = smoothed_loss[np.isfinite(smoothed_loss)]
    descent = curve[: np.argmin(curve) + 1] if len(curve) else curve
    if len(descent) > 1:
        margin = 0.25 * (descent.max() - descent[-1])
        ax.set_ylim(descent[-1] - margin, descent.max() + margin)
        if len(descent) < len(curve):
            ax.axvspan(x[len(descent) - 1], x[-1], color=_RED, alpha=0.1, label="past the descent")
    ax.set(xlabel=name, ylabel="loss")
    ax.legend(fontsize="small")
    if several:
        start = np.max(descent, initial=-np.inf)
        _plot_cycles(others[0], result.cycle_lr, result.cycle_loss, start, suggestion)
    return _figure_of(ax)


def _plot_cycles(
    ax: "Axes", lr: np.ndarray, loss: np.ndarray, start: float, suggestion: float | None
) -> None:
    """Draws the loss that each short cycle ended with; one above `start` is an arrow at the top."""
    order = np.argsort(lr)
    lr, loss = lr[order], loss[order]
    trains = loss <= start
    ax.plot(lr[trains], loss[trains], "o-", color=_BLUE, label="at the end of a short cycle")
    top = np.where(trains, np.nan, start)
    if not trains.all():
        ax.plot(lr, top, "^", color=_RED, label="above where it began")
    if suggestion is not None:
        ax.axvline(suggestion, color=_RED, linestyle="--", label=f"suggested: {suggestion:.3g}")
    ax.set_xscale("log")
    # The few rates that were tried; the ticks of a short logarithmic axis overlap.
    ax.set_xticks(lr, [f"{rate:.2g}" for rate in lr])
    ax.minorticks_off()
    ax.set(xlabel="highest learning rate of the cycle", ylabel="loss")
    ax.legend(fontsize="small")


def plot_weight_decays(
    results: "Mapping[str, RangeTestResult]", ax: "Axes | None" = None
) -> "Figure":
    """Draws range tests, by weight decay, and validation losses as dots in the color of their curve."""
    ax = ax or _panels(None)[0]
    for label, result in results.items():
        (line,) = ax.plot(result.lr, result.smoothed_loss, label=label)
        ax.plot(result.val_lr, result.val_loss, "o", color=line.get_color(), markersize=3)
        if result.mode == "exponential":
            ax.set_xscale("log")
    # A curve that diverges leaves at the top: where the others start is what one looks at.
    losses = [r.smoothed_loss[np.isfinite(r.smoothed_loss)] for r in results.values()]
    low = min((loss.min() for loss in losses if len(loss)), default=0.0)
    high = max((loss[0] for loss in losses if len(loss)), default=0.0)
    if low < high:
        margin = 0.1 * (high - low)
        ax.set_ylim(low - margin, high + margin)
    ax.set(xlabel="learning rate", ylabel="smoothed loss without penalty")
    ax.legend(title="weight decay")
    return _figure_of(ax)


def plot_settings(
    settings: Sequence[tuple[str, Sequence[float], str]],
    *,
    value_name: str,
    ax: "Axes | None" = None,
) -> "Figure":
    """Draws each setting (name, values, verdict) in a row, from top to bottom, and its mean as a line."""
    ax = ax or _panels(None, size=(6.5, 1 + 0.3 * len(settings)))[0]
    colors = {"best": _GREEN, "tie": _BLUE}
    for row, (_, values, verdict) in enumerate(settings):
        color = colors.get(verdict, "gray")
        ax.plot(values, [row] * len(values), "o", color=color, alpha=0.5)
        if values:
            ax.plot(np.mean(values), row, "|", color=color, markersize=16, markeredgewidth=3)
    told = [f"{name} ({verdict})" if verdict else name for name, _, verdict in settings]
    ax.set_yticks(range(len(settings)), told)
    ax.invert_yaxis()
    ax.set_xlabel(f"{value_name} (a dot for each fold, a line for the mean)")
    return _figure_of(ax)
