"""The base of the package's callbacks, and what Keras's own tell."""

from typing import Any

import keras

from keras_onecycle._keras.attachment import Attachment


class Callback(keras.callbacks.Callback):
    """A callback that pickles and copies without the model, and without what belongs to one `fit`."""

    _of_one_fit: tuple[str, ...] = ()
    # What it has put on an optimizer. None before that, when nothing but `set_model` asks for it.
    _scheduled: Attachment = None  # type: ignore[assignment]

    def set_model(self, model: keras.Model) -> None:
        # `fit` calls this first of all: what it refuses here leaves the `fit` outside as it was.
        if self._scheduled is not None and self._scheduled.is_in_a_callback:
            raise ValueError(
                f"This `{type(self).__name__}` is the callback of a `fit` that still runs. Create another "
                f"for a `fit` inside it. Received: model={model!r}"
            )
        self.undo_interrupted()
        super().set_model(model)

    def undo_interrupted(self) -> None:
        """Takes off what a `fit` that ended in an exception has left on its model."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        # `_model` is Keras's; a test of pickling sees to it that there is no other reference.
        return {**self.__dict__, **dict.fromkeys(("_model", *self._of_one_fit))}


def restored_epoch(model: keras.Model) -> int:
    """Returns the epoch that `BackupAndRestore` has gone back to, or 0."""
    # Private, but nothing public tells a backup from the user's `initial_epoch`.
    return model._initial_epoch or 0
