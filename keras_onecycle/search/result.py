"""The result of a search: each setting with its values, the best one, table and plot."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_onecycle import _plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Setting:
    """One setting of a search and how it did.

    Args:
        params: Dict, the parameters.
        values: Tuple of floats, the monitored value of each fold that was trained.
        max_lr: Float, the highest learning rate of its cycles, or `None` if none was found.
        failure: String, `"diverged: ..."`, or `"failed: ..."` with the error of `build` or training;
            `None` for a setting that was trained to the end on each fold.
    """

    params: dict[str, Any]
    values: tuple[float, ...] = ()
    max_lr: float | None = None
    failure: str | None = None

    @property
    def mean(self) -> float:
        """The mean over the folds, or NaN for a setting that did not get to the end."""
        return float("nan") if self.failure else float(np.mean(self.values))

    @property
    def std(self) -> float:
        """The standard deviation over the folds, or NaN where there are fewer than 2."""
        if self.failure or len(self.values) < 2:
            return float("nan")
        return float(np.std(self.values, ddof=1))


@dataclass
class SearchResult:
    """The result of `search.grid_search`.

    Example:

    >>> from keras_onecycle.search import SearchResult, Setting
    >>> result = SearchResult(
    ...     [
    ...         Setting({"dropout": 0.0}, (0.95, 0.85), 0.1),
    ...         Setting({"dropout": 0.2}, (0.94, 0.88), 0.1),
    ...         Setting({"dropout": 0.5}, (0.8, 0.7), 0.1),
    ...     ],
    ...     monitor="val_accuracy",
    ...     direction="maximize",
    ... )
    >>> result.best.params
    {'dropout': 0.0}
    >>> print(result.table())
    | dropout | max_lr | val_accuracy | spread | folds | verdict |
    | --- | --- | --- | --- | --- | --- |
    | 0.2 | 0.1 | 0.91 | 0.04243 | 2 | tie |
    | 0 | 0.1 | 0.9 | 0.07071 | 2 | best |
    | 0.5 | 0.1 | 0.75 | 0.07071 | 2 |  |

    A setting ties with the one that has the best mean if their mean difference over the folds is at most the
    standard deviation of that difference. A tie goes to the default, which is the first setting.

    Args:
        settings: List of `Setting`, in the order of the grid: the first is the default.
        monitor: String, what the values are.
        direction: `"minimize"` or `"maximize"`.
    """

    settings: list[Setting]
    monitor: str
    direction: str
    # Of `grid_search`: trains a setting.
    _train: Any = field(default=None, repr=False)

    @property
    def best(self) -> Setting:
        """The first setting if it is among `ties`, otherwise the one with the best mean."""
        ties = self.ties
        return self.settings[0] if self.settings[0] in ties else ties[0]

    @property
    def ties(self) -> list[Setting]:
        """The settings that tie with the best mean, the best first."""
        ranked = [setting for setting in self._ranked() if not setting.failure]
        if not ranked:
            raise ValueError(
                "No setting trained to the end on every fold, so none is best. Lower `max_lr`, or look "
                f"at what the table says. Received: {[s.failure for s in self.settings]}"
            )
        return [setting for setting in ranked if _is_tie(setting.values, ranked[0].values)]

    def table(self) -> str:
        """Returns the settings as a table in Markdown, in the order of their means.

        The spread is the standard deviation over the folds. The verdict is "best", "tie", or how the setting
        failed.
        """
        names = list(self.settings[0].params)
        # A grid may be over `max_lr` itself.
        rates = [] if "max_lr" in names else ["max_lr"]
        header = [*names, *rates, self.monitor, "spread", "folds", "verdict"]
        rows = [header, ["---"] * len(header)]
        for setting in self._ranked():
            rate = "" if setting.max_lr is None else f"{setting.max_lr:.3g}"
            values = [_text(value) for value in setting.params.values()]
            numbers = ["" if np.isnan(n) else f"{n:.4g}" for n in (setting.mean, setting.std)]
            told = (setting.failure or self._verdict(setting)).partition("\n")[0].replace("|", "/")
            rows.append([*values, *(rate for _ in rates), *numbers, str(len(setting.values)), told])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def plot(self, ax: "Axes | None" = None) -> "Figure":
        """Draws each setting in a row, the best at the top: a dot for each fold, and a line for the mean.

        Args:
            ax: Matplotlib Axes to draw into. Defaults to `None`: a new figure.

        Returns:
            The Matplotlib `Figure`.
        """
        rows = [
            (", ".join(f"{n}={_text(v)}" for n, v in s.params.items()), s.values, self._verdict(s))
            for s in self._ranked()
        ]
        return _plotting.plot_settings(rows, value_name=self.monitor, ax=ax)

    def refit(self, *data: Any) -> keras.Model:
        """Trains the best setting on all the data, as each fold was trained.

        Args:
            *data: What `fit` takes as `x`, `y` and `sample_weight`. Defaults to the data of the search.

        Returns:
            The trained `keras.Model`; its `history` is that of `fit`.

        Raises:
            ValueError: If no setting is the best.
        """
        return self._train(self.best, data)

    def _ranked(self) -> list[Setting]:
        sign = 1 if self.direction == "minimize" else -1
        return sorted(
            self.settings, key=lambda s: (s.failure is not None, 0 if s.failure else sign * s.mean)
        )

    def _verdict(self, setting: Setting) -> str:
        if setting.failure:
            return setting.failure.partition(":")[0]
        return "best" if setting is self.best else "tie" if setting in self.ties else ""


def _is_tie(values: Sequence[float], best: Sequence[float]) -> bool:
    difference = np.subtract(values, best)
    spread = np.std(difference, ddof=1) if len(difference) > 1 else 0.0
    return bool(abs(np.mean(difference)) <= spread)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
