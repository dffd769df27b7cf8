"""The result of a search: each setting with its values, the best one, table and plots."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_onecycle import _plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Setting:
    """One setting of a search and how it did.

    Args:
        params: Dict, the parameters.
        values: Tuple of floats, the monitored value of each fold that was trained.
        max_lr: Float, the highest learning rate of its cycles, or `None` if none was found.
        failure: String, `"diverged: ..."`, `"failed: ..."` with the error of `build` or training, or
            `"pruned"`; `None` for a setting that was trained to the end on each fold.
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
    _train: Callable[..., keras.Model] | None = field(default=None, repr=False)

    @property
    def best(self) -> Setting:
        """The first setting if it is among `ties`, else the one with the best mean."""
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

        The spread is the standard deviation over the folds. The verdict is "best" or "tie".
        """
        names = list(self.settings[0].params)
        # A grid may be over `max_lr` itself.
        rates = [] if "max_lr" in names else ["max_lr"]
        header = [*names, *rates, self.monitor, "spread", "folds", "verdict"]
        rows = [header, ["---"] * len(header)]
        failed = all(setting.failure for setting in self.settings)
        best, ties = (None, []) if failed else (self.best, self.ties)
        for setting in self._ranked():
            failure = setting.failure and setting.failure.splitlines()[0].replace("|", "/")
            result = failure or f"{setting.mean:.4g}"
            verdict = "best" if setting is best else "tie" if setting in ties else ""
            rate = "" if setting.max_lr is None else f"{setting.max_lr:.3g}"
            spread = "" if np.isnan(setting.std) else f"{setting.std:.4g}"
            values = [_text(value) for value in setting.params.values()]
            rows.append(
                [*values, *([rate] * len(rates)), result, spread, str(len(setting.values)), verdict]
            )
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def plot(self, parameters: Sequence[str] | None = None, ax: "Axes | None" = None) -> "Axes":
        """Draws the means: a curve over one parameter, a heat map over two.

        Of settings that differ only in other parameters, it draws the best.

        Args:
            parameters: One or two names. Defaults to `None`: those of the search, if they are at most two.
            ax: Matplotlib Axes to draw into. Defaults to `None`: a new figure.

        Returns:
            The Axes.

        Raises:
            ValueError: If `parameters` are not one or two of the search.
        """
        known = list(self.settings[0].params)
        names = list(known if parameters is None else parameters)
        if not 1 <= len(names) <= 2 or not set(names) <= set(known) or isinstance(parameters, str):
            raise ValueError(
                f"`parameters` must be a list of one or two of {known}. "
                f"Received: parameters={parameters!r}"
            )
        # The best is last, and stays.
        drawn = {tuple(s.params[n] for n in names): s for s in reversed(self._ranked())}
        levels = [_ordered({key[i] for key in drawn}) for i in range(len(names))]
        if len(names) == 1:
            settings = [drawn[(level,)] for level in levels[0]]
            return _plotting.plot_settings(
                [_text(level) for level in levels[0]],
                np.array([s.mean for s in settings]),
                np.array([s.std for s in settings]),
                name=names[0],
                value_name=self.monitor,
                ax=ax,
            )
        means = np.full([len(part) for part in levels], np.nan)
        for key, setting in drawn.items():
            means[levels[0].index(key[0]), levels[1].index(key[1])] = setting.mean
        return _plotting.plot_heat_map(
            means,
            [[_text(level) for level in part] for part in levels],
            names=names,
            value_name=self.monitor,
            lower_is_better=self.direction == "minimize",
            ax=ax,
        )

    def refit(self, *data: Any) -> keras.Model:
        """Trains the best setting on all the data, as each fold was trained.

        Args:
            *data: What `fit` takes as `x`, `y` and `sample_weight`. Required if the search had a
                function instead of data; defaults to the data of the search.

        Returns:
            The trained `keras.Model`; its `history` is that of `fit`.

        Raises:
            ValueError: If there is no data, or no best setting.
        """
        if self._train is None:
            raise ValueError(
                "This result did not come from `grid_search`, and cannot train. Received: no `build`"
            )
        best = self.best
        return self._train(best.params, best.max_lr, data)

    def _ranked(self) -> list[Setting]:
        sign = 1 if self.direction == "minimize" else -1
        return sorted(
            self.settings, key=lambda s: (s.failure is not None, 0 if s.failure else sign * s.mean)
        )


def _is_tie(values: Sequence[float], best: Sequence[float]) -> bool:
    difference = np.subtract(values, best)
    spread = np.std(difference, ddof=1) if len(difference) > 1 else 0.0
    return bool(abs(np.mean(difference)) <= spread)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _ordered(values: set[Any]) -> list[Any]:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return sorted(values) if numbers else sorted(values, key=str)
