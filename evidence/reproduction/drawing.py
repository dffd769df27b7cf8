"""What the figures are drawn and written with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # Pictures go to files.
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from evidence.pages import table
from keras_onecycle import RangeTestResult

plt.style.use("keras_onecycle.onecycle")

METHODS = ("edge", "valley", "minimum")  # of `RangeTestResult.suggest`


def spread(values: np.ndarray, digits: int = 2) -> str:
    """Returns the mean, and with several values their standard deviation and number."""
    number = seeds(len(values))
    if len(values) == 1:
        return f"{values[0]:.{digits}f} ({number})"
    deviation = np.std(values, ddof=1)
    return f"{np.mean(values):.{digits}f} ± {deviation:.{digits}f} ({number})"


def seeds(number: int) -> str:
    """Returns so many seeds in words."""
    return f"{number} seed{'s' * (number != 1)}"


def panels(number: int, height: float = 3.9) -> Sequence[Axes]:
    """Returns so many Axes side by side."""
    _, axes = plt.subplots(1, number, figsize=(5.2 * number, height), squeeze=False)
    return axes[0]


def finish(ax: Axes, x: str, y: str, *, legend: bool = True, title: str | None = None) -> None:
    """Labels the axes, and heads the legend."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if legend:
        ax.legend(fontsize="small", title=title)


def draw_course(ax: Axes, x: Sequence[float], values: np.ndarray, **style: Any) -> None:
    """Draws the mean of the seeds, the rows of `values`, and their span."""
    (line,) = ax.plot(x, values.mean(axis=0), **style)
    ax.fill_between(x, values.min(axis=0), values.max(axis=0), alpha=0.15, color=line.get_color())


def draw_ends(ax: Axes, x: Sequence[float], values: Sequence[np.ndarray], **style: Any) -> None:
    """Draws mean and standard deviation of the seeds at each of `x` that has some."""
    drawn = [
        (at, v.mean(), v.std(ddof=1) if len(v) > 1 else np.nan)
        for at, v in zip(x, values, strict=True)
        if len(v)
    ]
    ax.errorbar(*zip(*drawn, strict=True), capsize=3, **style)


def save(folder: Path, name: str, ax: Axes) -> None:
    """Writes the picture of a figure."""
    folder.mkdir(parents=True, exist_ok=True)
    ax.figure.savefig(folder / f"{name}.png", dpi=110)
    plt.close(ax.figure)


def draw_range_tests(
    of_lengths: Mapping[int, Sequence[RangeTestResult]],
) -> tuple[Sequence[Axes], str]:
    """Draws the range tests of some lengths, one a seed, and returns a table of what they suggest."""
    axes = panels(3)
    rows = []
    for number, (updates, results) in enumerate(of_lengths.items()):
        for test, result in enumerate(results):
            label = f"{updates} updates, test {test + 1}"
            style = {
                "color": f"C{number}",
                "linestyle": ("-", "--", "-.", ":")[test],
                "label": label,
            }
            marked = {**style, "marker": "o", "markersize": 3}
            axes[0].plot(result.lr, result.smoothed_loss, **style)
            axes[1].plot(result.val_lr, result.val_loss, **marked)
            axes[2].plot(result.val_lr, 100 * result.val_metrics["accuracy"], **marked)
        found = [_suggestions(result) for result in results]
        rows.append([updates, *(", ".join(one[name] for one in found) for name in METHODS)])
    for ax in axes[:2]:
        ax.set_ylim(0, 4)  # What diverges leaves the picture.
    finish(axes[0], "learning rate", "training loss, smoothed")
    finish(axes[1], "learning rate", "test loss")
    finish(axes[2], "learning rate", "test accuracy (%)")
    numbers = table(["updates", *(f"`{name}`" for name in METHODS)], rows)
    return (
        axes,
        f"{numbers}\n\nThe learning rates that each method of `suggest` returns, one a seed.",
    )


def _suggestions(result: RangeTestResult) -> dict[str, str]:
    """Returns the learning rate that each method reads off a range test."""
    found = {}
    for method in METHODS:
        try:
            found[method] = f"{result.suggest(method):.3g}"
        except ValueError:
            found[method] = "none"
    return found
