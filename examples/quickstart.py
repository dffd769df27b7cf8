"""A network that writes: what a range test and one cycle gain, in a minute or two for each seed.

usage: python -m examples.quickstart [--seeds N] [--epochs N]

A GRU learns the next character of Python's language reference, a text that comes with Python. A range test
suggests a learning rate, and one cycle trains with it. Beside it: other schedules at this rate, and AdamW().
"""

import argparse
from pydoc_data.topics import topics

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras.optimizers import AdamW
from keras.optimizers.schedules import CosineDecay

from keras_onecycle import OneCycle, lr_find

LENGTH, BATCH_SIZE, STEPS, UNITS = 50, 32, 44, 128  # the loss is looked at every 44 updates
PROMPT = "When a function is called, its arguments are then "
text = "".join(topics.values())
characters = sorted(set(text))


def pairs(text):
    """Windows of 50 characters, and for each character the one that comes next."""
    codes = np.searchsorted(characters, list(text)).astype("int32")
    windows = np.lib.stride_tricks.sliding_window_view(codes, LENGTH + 1)[::LENGTH]
    return windows[:, :-1], windows[:, 1:]


def network(seed, optimizer):
    """A network that reads characters and guesses the next, compiled, with weights drawn by `seed`."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential()
    model.add(keras.layers.Embedding(len(characters), 32))
    model.add(keras.layers.GRU(UNITS, return_sequences=True))
    model.add(keras.layers.Dense(len(characters)))
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def fit(model, epochs, callbacks=()):
    """Trains, and returns the validation loss after each 44 updates."""
    looks = {"validation_data": (test_x, test_y), "steps_per_epoch": STEPS}
    return model.fit(x, y, BATCH_SIZE, epochs, 0, callbacks, **looks).history["val_loss"]


def write(model):
    """Returns what the network writes after the prompt."""
    written, random = list(np.searchsorted(characters, list(PROMPT))), np.random.default_rng(0)
    for _ in range(160):
        logits = 2 * model.predict_on_batch(np.array([written[-LENGTH:]]))[0, -1]
        written.append(np.argmax(logits + random.gumbel(size=len(logits))))  # a random choice
    return "".join(characters[code] for code in written[LENGTH:])


# Nine tenths to train on, six times what is trained on between two looks.
(x, test_x), (y, test_y) = (np.split(part, [6 * STEPS * BATCH_SIZE]) for part in pairs(text))

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8, help="of 44 updates each")
    options = parser.parse_args()
    epochs, updates, losses, texts = options.epochs, options.epochs * STEPS, {}, {}
    for seed in range(options.seeds):
        found = lr_find(network(seed, AdamW()), x, y, batch_size=BATCH_SIZE, verbose=0)
        rate, up = found.suggest(), updates // 10
        warm_up = CosineDecay(0.0, updates - up, warmup_target=rate, warmup_steps=up)
        for name, optimizer in {
            "OneCycle": AdamW(),
            "warm-up, cosine": AdamW(warm_up),
            "constant": AdamW(rate),
            "cosine": AdamW(CosineDecay(rate, updates)),
            "AdamW()": AdamW(),
        }.items():
            model = network(seed, optimizer)
            loss = fit(model, epochs, [OneCycle(max_lr=rate)] if name == "OneCycle" else [])
            texts[name] = write(model)
            loss += fit(model, 3 * epochs) if name == "AdamW()" else []
            losses.setdefault(name, []).append(loss)
        enough = [(n + 1) * STEPS for n, of in enumerate(loss) if of <= losses["OneCycle"][-1][-1]]
        needs = min(enough, default=f"more than {len(loss) * STEPS}")
        print(f"seed {seed}: max_lr={rate:.3g}; AdamW() needs {needs} updates, not {updates}")
    plt.style.use("keras_onecycle.onecycle")
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    found.plot(ax=left)
    print(f"\n| training | validation loss after {updates} updates |\n| --- | --- |")
    for name, of_seeds in losses.items():
        at, mean = STEPS * np.arange(1, len(of_seeds[0]) + 1), np.mean(of_seeds, axis=0)
        spread = np.std(of_seeds, axis=0, ddof=options.seeds > 1)
        right.errorbar(at, mean, spread, label=name)
        print(f"| {name} | {mean[epochs - 1]:.2f} ± {spread[epochs - 1]:.2f} |")
    right.set(xlabel="updates", ylabel="validation loss")
    right.legend()
    figure.savefig("quickstart.png", dpi=160)
    for name, written in texts.items():
        print(f"\n{name} writes: {written}")
