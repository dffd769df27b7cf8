"""Whether the `fit` that a callback began in is still going on."""

import sys
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import keras


class RunningFit:
    """The `fit` that calls the callback which makes this object.

    Python's stack tells it exactly. Nothing else does: after an exception Keras calls no callback, and
    `make_train_function` is called by the next `fit`, but also in the middle of one, by callbacks that
    unfreeze layers, by `train_on_batch` and by a nested `fit`.
    """

    def __init__(self) -> None:
        self._callbacks: Any = None
        for frame in _stack():
            caller = frame.f_locals.get("self")
            if isinstance(caller, keras.callbacks.CallbackList):
                # Weakly: what `fit` holds, the data and on JAX the weights, must not outlive it.
                self._callbacks = weakref.ref(caller)
                self._runner = frame.f_back.f_code if frame.f_back else None
                break

    def at_end(self, act: Callable[[], None]) -> bool:
        """Calls `act` when training ends, after all callbacks; returns False where no `fit` goes on."""
        if self._callbacks is None:
            return False
        last = keras.callbacks.LambdaCallback(on_train_end=lambda logs: act())
        self._callbacks().callbacks.append(last)
        return True

    def is_running(self) -> bool:
        """Whether it has neither returned nor raised."""
        if self._callbacks is None:
            # Callbacks that are called by hand: they end when `on_train_end` is called.
            return True
        callbacks = self._callbacks()
        return callbacks is not None and any(
            frame.f_code is self._runner and any(v is callbacks for v in frame.f_locals.values())
            for frame in _stack()
        )


def _stack() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
