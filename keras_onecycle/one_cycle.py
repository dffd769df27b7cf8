"""The 1cycle policy as a callback."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_onecycle import _plotting
from keras_onecycle._arguments import check_bool, check_float
from keras_onecycle.scheduler import HyperparameterScheduler
from keras_onecycle.schedules import (
    Schedule,
    check_one_cycle,
    evaluate,
    one_cycle_lr,
    one_cycle_momentum,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class OneCycle(HyperparameterScheduler):
    """Trains with the 1cycle policy: the learning rate rises and falls once, momentum does the opposite.

    The learning rate rises linearly to `max_lr`, falls back in as many steps, and in the remaining
    steps drops far below where it started. Momentum falls and rises the other way round, and is then
    held. Both change at every optimizer update, inside the compiled step. With the same arguments,
    every value equals that of PyTorch's `OneCycleLR`; the defaults are the paper's.

    Example:

    >>> x, y = np.random.rand(64, 4), np.random.rand(64, 1)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(momentum=0.9), loss="mse")
    >>> cycle = keras_onecycle.OneCycle(max_lr=0.1)
    >>> history = model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[cycle])
    >>> cycle.history["learning_rate"].shape, cycle.history["momentum"].shape
    ((20,), (20,))
    >>> print(f'{cycle.history["learning_rate"].max():.2f} {cycle.history["momentum"].min():.2f}')
    0.10 0.85

    The logs of each epoch get `learning_rate` and `momentum`, the values of its last update, for the
    callbacks that come later in the list: put `OneCycle` before `CSVLogger` or `TensorBoard`, and after a
    `ReduceLROnPlateau`, which writes a `learning_rate` of its own.

    Args:
        max_lr: Float above 0. The highest learning rate; `lr_find` suggests one. With a `MultiOptimizer`,
            the rate of its default optimizer (the others keep their ratio to it), or a rate for each: a
            dict by the keys of its `OptimizerMap` and `"default"`, or a list in the order of the map
            with the default optimizer's rate last.
        total_steps: Integer, at least 1: optimizer updates in the cycle. With
            `gradient_accumulation_steps=k` an update is `k` batches. After the last one, the last
            values are held. Defaults to `None`: as many as `fit` makes.
        pct_start: Float in [0, 1] (with three phases, in [0, 0.5]). Fraction of the cycle spent
            going up. Defaults to `0.45`.
        anneal_strategy: `"linear"`, or `"cos"` for half cosine waves. Defaults to `"linear"`.
        cycle_momentum: Boolean or `"available"`. Whether to cycle momentum too: `momentum` of SGD and
            RMSprop, `beta_1` of the Adam family, `momentum` and `adam_beta_1` of Muon. `"available"` skips
            the parts of a `MultiOptimizer` that have none. Defaults to `True`.
        base_momentum: Float from 0 to `max_momentum`. Momentum where the learning rate is highest. Defaults
            to `0.85`.
        max_momentum: Float in [0, 1). Momentum at the start and the end. Defaults to `0.95`.
        div_factor: Float above 0. The first learning rate is `max_lr / div_factor`; 10 to 20 are
            usual. Defaults to `10.0`.
        final_div_factor: Float above 0. The last learning rate is the first one divided by this.
            Defaults to `1e4`.
        three_phase: Boolean. Whether the learning rate returns to where it started before it falls
            to its last value. `False` with `anneal_strategy="cos"`, `pct_start=0.3` and
            `div_factor=25` is PyTorch's default. Defaults to `True`.
        start_epoch: Integer, at least 0: the epoch, as `fit` counts them, at which the cycle begins.
            Defaults to `None`: epoch 0 if training continues with a used optimizer
            (`fit(..., initial_epoch=...)`, `BackupAndRestore`), otherwise the first epoch of `fit`. A warning
            says which if both are possible.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range; at the start of `fit`, if the optimizer has
            no momentum or cannot be scheduled, or the number of steps is not known.

    References:

    - [Smith, 2018, section 4](https://arxiv.org/abs/1803.09820)
    - [Smith and Topin, 2017, section 3](https://arxiv.org/abs/1708.07120)
    """

    def __init__(
        self,
        max_lr: float | Mapping[str, float] | Sequence[float],
        total_steps: int | None = None,
        pct_start: float = 0.45,
        anneal_strategy: str = "linear",
        cycle_momentum: bool | str = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 10.0,
        final_div_factor: float = 1e4,
        three_phase: bool = True,
        start_epoch: int | None = None,
    ) -> None:
        self._rates = max_lr if isinstance(max_lr, Mapping | list | tuple) else None
        arguments = check_one_cycle(
            max_lr=_rate_of_default(max_lr),
            pct_start=pct_start,
            anneal_strategy=anneal_strategy,
            div_factor=div_factor,
            final_div_factor=final_div_factor,
            three_phase=three_phase,
        )
        super().__init__(total_steps, start_epoch)
        self.max_lr: float = arguments["max_lr"]
        self.pct_start: float = arguments["pct_start"]
        self.anneal_strategy: str = arguments["anneal_strategy"]
        self.div_factor: float = arguments["div_factor"]
        self.final_div_factor: float = arguments["final_div_factor"]
        self.three_phase: bool = arguments["three_phase"]
        if cycle_momentum == "available":
            self._optional = ("momentum",)
            cycle_momentum = True
        self.cycle_momentum = check_bool("cycle_momentum", cycle_momentum, or_else="available")
        self.base_momentum = check_float("base_momentum", base_momentum, 0, 1, open_high=True)
        self.max_momentum = check_float("max_momentum", max_momentum, 0, 1, open_high=True)
        if self.base_momentum > self.max_momentum:
            raise ValueError(
                "`base_momentum`, at the highest learning rate, must not exceed `max_momentum`. "
                f"Received: base_momentum={base_momentum!r}, max_momentum={max_momentum!r}"
            )

    def schedules(self, total_steps: int) -> Mapping[str, Schedule]:
        """Returns the learning rate and the momentum as functions of the step."""
        shape: dict[str, Any] = {
            "total_steps": total_steps,
            "pct_start": self.pct_start,
            "anneal_strategy": self.anneal_strategy,
            "three_phase": self.three_phase,
        }
        schedules = {
            "learning_rate": partial(
                one_cycle_lr,
                max_lr=self.max_lr,
                div_factor=self.div_factor,
                final_div_factor=self.final_div_factor,
                **shape,
            )
        }
        if self.cycle_momentum:
            schedules["momentum"] = partial(
                one_cycle_momentum,
                base_momentum=self.base_momentum,
                max_momentum=self.max_momentum,
                **shape,
            )
        return schedules

    def plot(self, axes: "Sequence[Axes] | None" = None) -> "Figure":
        """Draws learning rate and momentum against the step, a panel each.

        These are the recorded values, or before any training the planned ones.

        Args:
            axes: Matplotlib Axes to draw into, one for each of the two (only one is needed with
                `cycle_momentum=False`). Defaults to `None`: a new figure.

        Returns:
            The Figure: `cycle.plot().savefig("cycle.png")` writes it to a file.

        Raises:
            ValueError: If nothing is recorded yet and `total_steps` was not given.
        """
        values, first_step = self.history, self._first_step
        if not self._next_step:
            if self.total_steps is None:
                raise ValueError(
                    "There is nothing to plot before the first epoch of `fit` has ended, unless the "
                    "length of the cycle is given. Received: total_steps=None"
                )
            steps = np.arange(self.total_steps)
            values = {n: evaluate(s, steps) for n, s in self.schedules(self.total_steps).items()}
        return _plotting.plot_steps(values, axes, first_step=first_step)


def _rate_of_default(max_lr: Any) -> Any:
    """Returns the rate of the default optimizer, where there is one for each part, all of them checked."""
    if not isinstance(max_lr, Mapping | list | tuple):
        return max_lr
    rates = max_lr.values() if isinstance(max_lr, Mapping) else max_lr
    for rate in rates:
        check_float("max_lr", rate, 0, open_low=True)
    if not rates or (isinstance(max_lr, Mapping) and "default" not in max_lr):
        raise ValueError(
            '`max_lr` must have a rate for the default optimizer, under `"default"` or last. '
            f"Received: max_lr={max_lr!r}"
        )
    return max_lr["default"] if isinstance(max_lr, Mapping) else max_lr[-1]
