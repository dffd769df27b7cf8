"""The losses of a range test as they come in: their moving average, and the rule that stops the test."""

import math

# The last losses that must all say that the loss has risen: see evidence/benchmarks/stop_rule.py.
_VERDICT = 5


class LossCurve:
    """Losses by the step, as they come in."""

    def __init__(self, num_steps: int, smoothing: float, stop_factor: float | None) -> None:
        self.num_steps, self.smoothing, self.stop_factor = num_steps, smoothing, stop_factor
        self.steps: list[int] = []
        self.loss: list[float] = []
        self.smoothed: list[float] = []
        self._sum = self._weight = 0.0
        self._first: float | None = None
        self._lowest = math.inf

    def add(self, step: int, loss: float, weight: float = 1.0) -> None:
        """Appends the loss of a step."""
        self.steps.append(step)
        self.loss.append(loss)
        if not math.isfinite(loss):
            self.smoothed.append(math.nan)
            return
        self._sum = self.smoothing * self._sum + weight * loss
        self._weight = self.smoothing * self._weight + weight
        average = self._sum / self._weight
        self.smoothed.append(average)
        if self._first is None:
            self._first = average
        if 10 * step >= self.num_steps:
            self._lowest = min(self._lowest, average)

    def stop_reason(self) -> str | None:
        """Returns why the test is over before its end, or `None` if it is not.

        The loss is NaN, or the moving average and each of the last 5 losses are more than `stop_factor` times
        the lowest average. Of the first tenth of the test only NaN counts.
        """
        if self.stop_factor is None:
            return None
        if math.isnan(self.loss[-1]):
            return "the loss is NaN"
        if 10 * self.steps[-1] < self.num_steps or len(self.loss) < _VERDICT:
            return None
        # Where the loss changes sign, its lowest may be next to 0 and is no measure of a rise.
        size = self._lowest if self._lowest > 0 else max(abs(self._lowest), abs(self._first or 0.0))
        limit = self._lowest + (self.stop_factor - 1) * size
        average = self.smoothed[-1] if math.isfinite(self.loss[-1]) else math.inf
        return (
            f"the loss is above {limit:.3g}"
            if min(average, *self.loss[-_VERDICT:]) > limit
            else None
        )
