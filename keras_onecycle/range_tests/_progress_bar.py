"""Keras's progress bar over the updates of a range test."""

from typing import Any

import keras

from keras_onecycle.range_tests._range_test import RangeTest


class ProgressBar(keras.callbacks.Callback):
    """Shows what moves and the loss after each update of a `RangeTest`."""

    def __init__(self, test: RangeTest, verbose: str | int) -> None:
        super().__init__()
        self._name = test.shown or test.moved
        self._test, self._verbose = test, 1 if verbose == "auto" else int(verbose)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._shown = 0
        self._bar = keras.utils.Progbar(
            self._test.total_steps,
            verbose=self._verbose,
            stateful_metrics=[self._name, "loss"],
            unit_name="update",
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        done, moved, loss = self._test.progress()
        if self._verbose and done > self._shown:
            self._shown = done
            self._bar.update(done, [(self._name, moved), ("loss", loss)], finalize=False)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._verbose:
            self._bar.update(self._shown, finalize=True)
