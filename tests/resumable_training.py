"""A training that a test kills with SIGKILL and starts again.

usage: python tests/resumable_training.py BACKUP_DIR OUT.npz FIRST_CALLBACK [KILL_EPOCH]

Keras's `BackupAndRestore` saves each epoch's end. With KILL_EPOCH the process kills itself in the
middle of that epoch; without, it trains to the end and writes the weights and the cycle's history.
"""

import os
import signal
import sys

import keras
import numpy as np

import reference
from keras_onecycle import OneCycle

EPOCHS = 4


class Kill(keras.callbacks.Callback):
    """Kills the process as nothing can prevent, in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.kill_epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if (self.epoch, batch) == (self.kill_epoch, 3):
            os.kill(os.getpid(), signal.SIGKILL)


def main(backup_dir: str, out: str, first: str, kill_epoch: str | None = None) -> None:
    x, y = reference.data(64)
    model = reference.build(keras.layers.BatchNormalization())
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), loss="mse")
    model.fit(x[:24], y[:24], batch_size=8, shuffle=False, verbose=0)  # A used optimizer.
    cycle = OneCycle(0.03)
    backup = keras.callbacks.BackupAndRestore(backup_dir, delete_checkpoint=False)
    callbacks = [cycle, backup] if first == "OneCycle" else [backup, cycle]
    if kill_epoch is not None:
        callbacks.append(Kill(int(kill_epoch)))
    model.fit(x, y, batch_size=8, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks)
    weights = {f"weight{i}": weight for i, weight in enumerate(model.get_weights())}
    learning_rate = np.array(model.optimizer.learning_rate.value)
    np.savez(out, **weights, **cycle.history, user_learning_rate=learning_rate)


if __name__ == "__main__":
    main(*sys.argv[1:])
