"""The base of the package's callbacks, and what Keras's own tell."""

from typing import Any

import keras


class Callback(keras.callbacks.Callback):
    """A callback that pickles and copies without the model, and without what belongs to one `fit`."""

    _of_one_fit: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        # `_model` is Keras's; a test of pickling sees to it that there is no other reference.
        return {**self.__dict__, **dict.fromkeys(("_model", *self._of_one_fit))}


def restored_epoch(model: keras.Model) -> int:
    """Returns the epoch that `BackupAndRestore` has gone back to, or 0."""
    # Private, but nothing public tells a backup from the user's `initial_epoch`.
    return model._initial_epoch or 0
