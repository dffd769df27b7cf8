"""The losses of a range test: their moving average, and when the test has diverged. No Keras in here."""

import math

import numpy as np

# The last losses that must agree that the loss has risen: one or two are noise.
_VERDICT = 5


class LossCurve:
    """Losses by the step, as they come in.

    Args:
        num_steps: Integer, the steps of the whole test.
        smoothing: Float in [0, 1), the weight of the past in the bias-corrected moving average.
        stop_factor: Float above 1, or `None` for a test that never stops early.
    """

    def __init__(self, num_steps: int, smoothing: float, stop_factor: float | None) -> None:
        self.num_steps, self.smoothing, self.stop_factor = num_steps, smoothing, stop_factor
        self.steps: list[int] = []
        self.loss: list[float] = []
        self.smoothed: list[float] = []
        self._sum = self._weight = 0.0

    def add(self, step: int, loss: float, weight: float = 1.0) -> None:
        """Appends the loss of a step.

        Args:
            step: Integer, from 0.
            loss: Float. Infinity and NaN are kept, but stay out of the average.
            weight: Float, what the loss counts in the average: the samples that it is of. Defaults to
                `1.0`.
        """
        self.steps.append(step)
        self.loss.append(loss)
        if not math.isfinite(loss):
            self.smoothed.append(math.nan)
            return
        self._sum = self.smoothing * self._sum + weight * loss
        self._weight = self.smoothing * self._weight + weight
        self.smoothed.append(self._sum / self._weight)

    def stop_reason(self) -> str | None:
        """Returns why the test is over before its end, or `None` if it is not.

        The loss is NaN, or both the moving average and the median of the last 5 losses are more than
        `stop_factor` times the lowest average. Of the first tenth of the test only NaN counts.
        """
        if self.stop_factor is None:
            return None
        if math.isnan(self.loss[-1]):
            return "the loss is NaN"
        if 10 * self.steps[-1] < self.num_steps:
            return None
        kept = [
            s for n, s in zip(self.steps, self.smoothed, strict=True) if 10 * n >= self.num_steps
        ]
        lowest = np.nanmin(kept, initial=math.inf)
        recent = float(np.median(self.loss[-_VERDICT:]))
        average = self.smoothed[-1] if math.isfinite(self.loss[-1]) else math.inf
        limit = float(lowest) + (self.stop_factor - 1) * self._size(float(lowest))
        if len(self.loss) >= _VERDICT and average > limit < recent:
            return f"the loss is above {limit:.3g}"
        return None

    def _size(self, lowest: float) -> float:
        # Where the loss changes sign, its lowest may be next to 0 and is no measure of a rise.
        first = next((s for s in self.smoothed if math.isfinite(s)), 0.0)
        return lowest if lowest > 0 else max(abs(lowest), abs(first))
