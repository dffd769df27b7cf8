"""What a batch-size search saw: how long a step takes at each size, and where it stops to pay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_onecycle import _plotting
from keras_onecycle._arguments import check_float

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False)
class BatchSizeResult:
    """The result of `find_batch_size`.

    Example:

    >>> result = keras_onecycle.search.BatchSizeResult(
    ...     batch_sizes=[32, 64, 128, 192], step_times=[0.02, 0.022, 0.04, 0.06], out_of_memory=256
    ... )
    >>> result.largest, result.suggest()
    (192, 128)
    >>> result.throughputs.round().tolist()
    [1600.0, 2909.0, 3200.0, 3200.0]

    Args:
        batch_sizes: Integer array of shape `(sizes,)`, increasing: the sizes that fit, in samples.
        step_times: Float array of shape `(sizes,)`: the median time of a training step, in seconds.
        out_of_memory: Integer, the smallest batch size that did not fit, or `None` where all that
            were allowed did. Defaults to `None`.

    Raises:
        ValueError: If the arrays are empty, not of one length, or hold what they should not.
    """

    batch_sizes: np.ndarray
    step_times: np.ndarray
    out_of_memory: int | None = None

    def __post_init__(self) -> None:
        self.batch_sizes = np.asarray(self.batch_sizes)
        self.step_times = np.asarray(self.step_times, dtype=float)
        sizes, times = self.batch_sizes, self.step_times
        whole = sizes.ndim == 1 and len(sizes) > 0 and np.issubdtype(sizes.dtype, np.integer)
        if not whole or sizes[0] < 1 or (np.diff(sizes) <= 0).any():
            raise ValueError(
                "`batch_sizes` must be integers from 1 that increase, at least one. "
                f"Received: batch_sizes={sizes!r}"
            )
        if times.shape != sizes.shape or not (np.isfinite(times) & (times > 0)).all():
            raise ValueError(
                "`step_times` must be seconds above 0, one for each of `batch_sizes`. "
                f"Received: step_times={times!r}"
            )

    def __repr__(self) -> str:
        return (
            f"BatchSizeResult(sizes={len(self.batch_sizes)}, largest={self.largest}, "
            f"limited_by={self.limited_by!r})"
        )

    @property
    def largest(self) -> int:
        """The largest batch size that was seen to fit, in samples."""
        return int(self.batch_sizes[-1])

    @property
    def limited_by(self) -> str:
        """What ended the search: `"memory"`, or the `"max_batch_size"` that it may go up to."""
        return "max_batch_size" if self.out_of_memory is None else "memory"

    @property
    def throughputs(self) -> np.ndarray:
        """Samples a second at each of `batch_sizes`, a float array of shape `(sizes,)`."""
        return self.batch_sizes / self.step_times

    def suggest(self, fraction: float = 0.95) -> int:
        """Returns the smallest batch size with nearly the best throughput.

        Larger ones only make fewer updates of an epoch.

        Args:
            fraction: Float in (0, 1]: how much of the best throughput is enough. Defaults to `0.95`.

        Returns:
            An integer, in samples.

        Raises:
            TypeError: If `fraction` is no number.
            ValueError: If it is out of its range.
        """
        check_float("fraction", fraction, 0, 1, open_low=True)
        enough = self.throughputs >= fraction * self.throughputs.max()
        return int(self.batch_sizes[np.argmax(enough)])

    def plot(self, axes: "Sequence[Axes] | None" = None) -> "Sequence[Axes]":
        """Draws throughput and step time against batch size, and marks the suggestion.

        Args:
            axes: Two Matplotlib Axes to draw into. Defaults to `None`: a new figure.

        Returns:
            The two Axes, each with a log axis of batch sizes.

        Raises:
            ValueError: If `axes` are fewer than two.
        """
        return _plotting.plot_batch_sizes(
            self.batch_sizes,
            self.throughputs,
            self.step_times,
            suggestion=self.suggest(),
            out_of_memory=self.out_of_memory,
            axes=axes,
        )
