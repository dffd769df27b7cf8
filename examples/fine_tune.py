"""Fine-tunes a network that has learned English to write Python, in five ways of equal length.

usage: python -m examples.fine_tune [--seeds N] [--characters N] [--epochs N]

A GRU learns the next character of Python's language reference, as in the quickstart. It is then trained on a
little Python: the first characters of the module `argparse`. What is shown is the loss on the rest of that
module. Every training has its own range test and one cycle.
"""

import argparse
import inspect

import keras
import numpy as np
from keras.optimizers import AdamW, MultiOptimizer, OptimizerMap

from examples.quickstart import BATCH_SIZE, STEPS, UNITS, characters, pairs, x, y
from keras_onecycle import OneCycle, lr_find


def network(weights=None):
    """A network that reads characters and guesses the next, with `weights` if they are given."""
    model = keras.Sequential()
    model.add(keras.layers.Embedding(len(characters), 32, name="embedding"))
    model.add(keras.layers.GRU(UNITS, return_sequences=True, name="gru"))
    model.add(keras.layers.Dense(len(characters), name="head"))
    model.build((None, None))
    if weights:
        model.set_weights(weights)
    return model


def fit(model, optimizer, x, y, epochs, **arguments):
    """Compiles; finds a rate; trains one cycle with it."""
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    max_lr = lr_find(model, x, y, batch_size=BATCH_SIZE, verbose=0).suggest()
    model.fit(x, y, BATCH_SIZE, epochs, 0, [OneCycle(max_lr)], **arguments)
    return max_lr


def freeze(model, frozen):
    """Freezes what was pretrained, or makes it trainable again."""
    for layer in model.layers[:-1]:
        layer.trainable = not frozen


def layer_wise():
    """A tenth of the head's rate in what was pretrained, whatever `max_lr` is."""
    return MultiOptimizer(OptimizerMap(AdamW(1e-4), {".*head/.*": AdamW(1e-3)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--characters", type=int, default=20_000, help="of Python to train on")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    source, epochs = inspect.getsource(argparse), options.epochs
    few, rest = pairs(source[: options.characters]), pairs(source[options.characters :])
    losses = {}

    def judge(name, model, *rates):
        """Keeps the loss on the rest of the module."""
        losses.setdefault(name, []).append(model.evaluate(*rest, verbose=0))
        told = ", ".join(f"{rate:.3g}" for rate in rates)
        print(f"seed {seed}, {name}: max_lr={told}, loss {losses[name][-1]:.3f}", flush=True)

    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        pretrained = network()
        fit(pretrained, AdamW(), x, y, 8, steps_per_epoch=STEPS)
        judge("not fine-tuned", pretrained)
        weights = pretrained.get_weights()
        model = network()
        judge("not pretrained", model, fit(model, AdamW(), *few, epochs))
        model = network(weights)
        judge("all layers, one rate", model, fit(model, AdamW(), *few, epochs))
        model = network(weights)
        judge("all layers, a tenth in the body", model, fit(model, layer_wise(), *few, epochs))
        model = network(weights)
        freeze(model, True)
        judge("the head alone", model, fit(model, AdamW(), *few, epochs))
        model = network(weights)
        freeze(model, True)
        first = fit(model, AdamW(), *few, epochs // 4)
        freeze(model, False)  # what is trainable has changed: compile again, test again
        second = fit(model, AdamW(), *few, epochs - epochs // 4)
        judge("the head alone, then all layers", model, first, second)
    print("\n| training | loss on the rest |\n| --- | --- |")
    for name, values in losses.items():
        print(f"| {name} | {np.mean(values):.3f} ± {np.std(values, ddof=len(values) > 1):.3f} |")
