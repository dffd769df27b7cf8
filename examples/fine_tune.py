"""Fine-tunes a network that has learned English to write Python.

usage: python -m examples.fine_tune [--seeds N] [--characters N] [--epochs N]

A GRU learns the next character of Python's language reference, as in the quickstart. With a new head it is
then trained on a little Python: the first characters of the module `argparse`. What is shown is the loss on
the rest of that module, after one cycle at the rate that a range test suggests, and at a tenth of it.
"""

import argparse
import inspect

import keras
import numpy as np
from keras.optimizers import AdamW, MultiOptimizer, OptimizerMap

from examples.quickstart import BATCH_SIZE, STEPS, UNITS, characters, pairs, x, y
from keras_onecycle import OneCycle, lr_find

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(weights=(), frozen=False):
    """A network that reads characters and guesses the next; its first `weights` may be given."""
    model = keras.Sequential()
    model.add(keras.layers.Embedding(len(characters), 32, name="embedding"))
    model.add(keras.layers.GRU(UNITS, return_sequences=True, name="gru"))
    model.add(keras.layers.Dense(len(characters), name="head"))
    model.build((None, None))
    model.set_weights([*weights, *model.get_weights()[len(weights) :]])
    for layer in model.layers[:-1]:
        layer.trainable = not frozen
    return model


def layer_wise():
    """Ten times the rate in the new head, whatever `max_lr` is."""
    return MultiOptimizer(OptimizerMap(AdamW(1e-4), {".*head/.*": AdamW(1e-3)}))


def fit(model, optimizer, x, y, epochs, times=1.0, **arguments):
    """Compiles, finds a rate, trains one cycle with it or a part of it, and returns the rate."""
    model.compile(optimizer, LOSS)
    max_lr = times * lr_find(model, x, y, batch_size=BATCH_SIZE, verbose=0).suggest()
    model.fit(x, y, BATCH_SIZE, epochs, 0, [OneCycle(max_lr)], **arguments)
    return max_lr


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--characters", type=int, default=5_000, help="of Python to train on")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    source, epochs = inspect.getsource(argparse), options.epochs
    few, rest = pairs(source[: options.characters]), pairs(source[options.characters :])
    losses = {}

    def judge(name, times, model, max_lr):
        """Keeps the loss on the rest of the module."""
        losses.setdefault((name, times), []).append(model.evaluate(*rest, verbose=0))
        print(
            f"seed {seed}, {name}: max_lr={max_lr:.2g}, loss {losses[name, times][-1]:.3f}",
            flush=True,
        )

    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        model = network()
        fit(model, AdamW(), x, y, 8, steps_per_epoch=STEPS)
        body = model.get_weights()[:-2]  # without the head
        head = network(body, frozen=True)
        judge("the head alone", 1, head, fit(head, AdamW(), *few, epochs))
        plain = network(body)
        plain.compile(AdamW(), LOSS)
        plain.fit(*few, BATCH_SIZE, epochs, 0)
        judge("all layers, AdamW() as it comes", "-", plain, 0.001)
        for times in (1, 0.1):
            for name, optimizer, before in (
                ("not pretrained", AdamW(), ()),
                ("all layers", AdamW(), body),
                ("all layers, the head at ten times the rate", layer_wise(), body),
                # What is trainable changes: the optimizer is a new one, and the range test too.
                ("the head alone, then all layers", AdamW(), head.get_weights()),
            ):
                model = network(before)
                judge(name, times, model, fit(model, optimizer, *few, epochs, times))
    print("\n| training | of the suggested rate | loss on the rest |\n| --- | --- | --- |")
    for (name, times), values in losses.items():
        spread = np.std(values, ddof=len(values) > 1)
        print(f"| {name} | {times} | {np.mean(values):.3f} ± {spread:.3f} |")
