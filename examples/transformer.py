"""A small Transformer with AdamW: one cycle, and what momentum, clipping and weight decay do to it.

usage: python -m examples.transformer [--seeds N] [--epochs N]

It learns the next character of the text of the quickstart. What is shown is the validation loss after one
cycle at the rate that a range test suggests, and after as many updates of `AdamW()`.
"""

import argparse

import keras
import numpy as np
from keras import layers, ops
from keras.optimizers import AdamW

from examples.quickstart import BATCH_SIZE, LENGTH, characters, fit, x, y
from keras_onecycle import OneCycle, lr_find

UNITS, HEADS, BLOCKS = 64, 4, 2


def network(seed, **arguments):
    """A Transformer that reads characters and guesses the next, compiled with AdamW."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None,), dtype="int32")
    positions = ops.cumsum(ops.ones_like(inputs), axis=1) - 1
    hidden = layers.Embedding(len(characters), UNITS)(inputs)
    hidden += layers.Embedding(LENGTH, UNITS)(positions)
    for _ in range(BLOCKS):
        normal = layers.LayerNormalization()(hidden)
        attention = layers.MultiHeadAttention(HEADS, UNITS // HEADS)
        hidden += attention(normal, normal, use_causal_mask=True)
        normal = layers.LayerNormalization()(hidden)
        hidden += layers.Dense(UNITS)(layers.Dense(4 * UNITS, "gelu")(normal))
    outputs = layers.Dense(len(characters))(layers.LayerNormalization()(hidden))
    model = keras.Model(inputs, outputs)
    optimizer = AdamW(**arguments)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8, help="of 44 updates each")
    options = parser.parse_args()
    losses, rates = {}, []
    for seed in range(options.seeds):
        found = lr_find(network(seed), x, y, batch_size=BATCH_SIZE, verbose=0)
        rates.append(found.suggest())
        for name, of_cycle, of_optimizer in (
            ("`AdamW()`", None, {}),
            ("`OneCycle`", {}, {}),
            ("`OneCycle`, `cycle_momentum=False`", {"cycle_momentum": False}, {}),
            ("`OneCycle`, `global_clipnorm=1`", {}, {"global_clipnorm": 1.0}),
            ("`OneCycle`, `weight_decay=0.1`", {}, {"weight_decay": 0.1}),
        ):
            callbacks = [] if of_cycle is None else [OneCycle(rates[-1], **of_cycle)]
            loss = fit(network(seed, **of_optimizer), options.epochs, callbacks)[-1]
            losses.setdefault(name, []).append(loss)
            print(f"seed {seed}, {name}: {loss:.3f}", flush=True)
    print("suggested:", ", ".join(f"{rate:.3g}" for rate in rates))
    print("\n| training | validation loss |\n| --- | --- |")
    for name, values in losses.items():
        print(f"| {name} | {np.mean(values):.2f} ± {np.std(values, ddof=len(values) > 1):.2f} |")
