"""Whether the `fit` that a callback began in still runs."""

import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from types import FrameType, FunctionType
from typing import Any

from keras import Model
from keras.callbacks import CallbackList, LambdaCallback

_FIT = inspect.unwrap(Model.fit).__code__
_CALLS = {
    member.__code__
    for member in vars(CallbackList).values()
    if isinstance(member, FunctionType) and member.__name__ != "__init__"
}


class RunningFit:
    """The `fit` that calls the callback which makes this object, or a loop of one's own that does.

    After an exception Keras calls no callback. What tells the model's next `fit` from one inside this
    `fit` is that everything inside is called by a callback: then the `CallbackList` of this `fit` is on
    Python's stack. A loop of one's own calls the model itself, so it runs until it says that it ends.
    """

    def __init__(self) -> None:
        self._callbacks: Any = lambda: None
        self._is_of_keras = False
        for frame in _calls_of_callbacks():
            # Weakly: what `fit` holds, the data and on JAX the weights, must not outlive it.
            self._callbacks = weakref.ref(frame.f_locals["self"])
            self._is_of_keras = frame.f_back is not None and frame.f_back.f_code is _FIT
            break

    def at_end(self, act: Callable[[], None]) -> bool:
        """Calls `act` when training ends, after all callbacks; returns False without a `CallbackList`."""
        callbacks = self._callbacks()
        if callbacks is None:
            return False
        callbacks.callbacks.append(LambdaCallback(on_train_end=lambda logs: act()))
        return True

    def is_calling(self) -> bool:
        """Whether it is calling a callback now."""
        callbacks = self._callbacks()
        return callbacks is not None and any(
            frame.f_locals["self"] is callbacks for frame in _calls_of_callbacks()
        )

    def is_running(self) -> bool:
        """Whether it has neither returned nor raised, as far as can be told."""
        return not self._is_of_keras or self.is_calling()


def _calls_of_callbacks() -> Iterator[FrameType]:
    """Goes through the calls of a `CallbackList` that have not returned, from the innermost outwards."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _CALLS:
            yield frame
        frame = frame.f_back
