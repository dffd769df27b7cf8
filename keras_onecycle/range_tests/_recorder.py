"""What a range test records: the loss of each update, from those of its batches."""

import numpy as np

from keras_onecycle.range_tests._stop_rule import LossCurve


class Recorder:
    """Counts updates, and joins the losses of their batches to a curve.

    Args:
        curve: The `LossCurve` to append to.
        batches: Integer, the batches that the optimizer has counted before the test.
    """

    def __init__(self, curve: LossCurve, batches: int) -> None:
        self.curve = curve
        # Updates that were made, and batches in a row that made none.
        self.updates = self.skipped = 0
        self._batches = batches
        self._of_update: list[tuple[float, float]] = []

    def add_batch(self, loss: float, samples: float, batches: int, updates: int) -> bool:
        """Takes the loss of a batch, and returns whether that completed an update.

        Args:
            loss: Float, the mean loss of the batch.
            samples: Float, the samples in it.
            batches: Integer, the batches that the optimizer has counted by now.
            updates: Integer, the updates of the test that it has made by now.
        """
        if batches == self._batches:
            self.skipped += 1
            return False
        self._batches, self.skipped = batches, 0
        self._of_update.append((loss, samples))
        if updates <= self.updates:
            return False
        losses, weights = np.array(self._of_update).T
        # With several updates in a `train_step`, the loss is that of the first.
        first, self.updates = self.updates, min(updates, self.curve.num_steps)
        self._of_update.clear()
        self.curve.add(first, float(losses @ weights / weights.sum()), float(weights.sum()))
        return True
