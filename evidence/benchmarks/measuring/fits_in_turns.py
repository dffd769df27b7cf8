"""Calls of `fit` that take turns, an epoch each, so that each is compared with the others of its second.

A `fit` goes from its first epoch to its last in one call. Here each runs in a thread of its own and
waits at the end of every epoch until it is told to go on; no two ever run at once.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from evidence.benchmarks.measuring.rounds import in_turns


@dataclass
class Epoch:
    """What an epoch took, in seconds: its steps by the clock and by processor time, and the callbacks."""

    steps: float
    steps_cpu: float
    callbacks: float


class Fit:
    """A call of `fit` of which each call of `epoch` runs one epoch.

    Args:
        model: A compiled `keras.Model`.
        x: Array of the inputs.
        y: Array of the targets.
        epochs: Integer: calls of `epoch` there will be.
        callbacks: Callbacks whose cost at the beginning and end of an epoch is told apart from the
            steps.
        **arguments: What else `fit` takes.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any,
        *,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **arguments: Any,
    ) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._marks: list[tuple[float, float]] = []

        def run() -> None:
            # The first and the last of the callbacks enclose the others.
            between = [_Mark(self._marks), *callbacks, _Mark(self._marks, self._pause)]
            try:
                model.fit(
                    x, y, epochs=epochs, callbacks=between, verbose=0, shuffle=False, **arguments
                )
            except BaseException as error:
                self._error = error
                self._done.release()

        self._thread = threading.Thread(target=run, daemon=True)

    def epoch(self) -> Epoch:
        """Runs the next epoch and returns what it took. The first includes compilation."""
        self._marks.clear()
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error
        (before, _), (begin, cpu_begin), (end, cpu_end), (after, _) = self._marks
        return Epoch(end - begin, cpu_end - cpu_begin, begin - before + after - end)

    def finish(self) -> None:
        """Lets `fit` return, after its last epoch."""
        self._go.release()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _pause(self) -> None:
        self._done.release()
        self._go.acquire()


# Before the first epoch that counts: one compiles, and another warms up.
WARM_UP = 2


def epochs_in_turns(fits: Mapping[str, Fit], rounds: int) -> dict[str, list[Epoch]]:
    """Runs `WARM_UP` epochs of each, then so many in turns, which are returned, and lets all end."""
    for fit in WARM_UP * list(fits.values()):
        fit.epoch()
    epochs = in_turns({name: fit.epoch for name, fit in fits.items()}, rounds)
    for fit in fits.values():
        fit.finish()
    return epochs


class _Mark(keras.callbacks.Callback):
    """Notes the time where an epoch begins and ends."""

    def __init__(self, marks: list[tuple[float, float]], then: Any = lambda: None) -> None:
        super().__init__()
        self._marks, self._then = marks, then

    def _mark(self) -> None:
        self._marks.append((time.perf_counter(), time.process_time()))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._mark()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # `fit` has read the logs by now, for which the last step had to be done.
        self._mark()
        self._then()
