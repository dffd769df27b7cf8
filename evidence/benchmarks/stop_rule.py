"""Where range tests stop: how often at noise, and how long after the loss has really diverged.

usage: python -m evidence.benchmarks.stop_rule [--seeds N] [--save] [--small]

Range tests on scikit-learn's digits run to their end while the loss of all the data is evaluated after each
update. That loss has no noise of batches: a test has diverged where it is more than 4 times its lowest. Each
rule then reads the losses of the batches alone.
"""

import argparse
import itertools
from collections.abc import Callable, Sequence

import keras
import numpy as np
from sklearn.datasets import load_digits

from evidence.benchmarks.measuring.saving import add_save, write
from evidence.pages import table
from keras_onecycle import RangeTestResult, lr_find
from keras_onecycle.range_tests._stop_rule import LossCurve

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
FACTOR = 4.0


def average(losses: np.ndarray) -> np.ndarray:
    """The bias-corrected moving average."""
    curve = LossCurve(len(losses), 0.98, None)
    for step, loss in enumerate(losses):
        curve.add(step, float(loss))
    return np.array(curve.smoothed)


def average_alone(losses: np.ndarray) -> int | None:
    """The rule of fastai and torch-lr-finder: the average is above 4 times its lowest, from the start."""
    smoothed = average(losses)
    above = ~(smoothed <= FACTOR * np.minimum.accumulate(smoothed))
    return int(np.argmax(above)) if above.any() else None


def of_the_package(losses: np.ndarray) -> int | None:
    """The rule of `lr_find`."""
    curve = LossCurve(len(losses), 0.98, FACTOR)
    for step, loss in enumerate(losses):
        curve.add(step, float(loss))
        if curve.stop_reason() is not None:
            return step
    return None


RULES: dict[str, Callable[[np.ndarray], int | None]] = {
    "average alone": average_alone,
    "lr_find": of_the_package,
}


def diverged_at(result: RangeTestResult) -> int | None:
    """The first update after which the loss of all the data is above 4 times its lowest."""
    above = ~(result.val_loss <= FACTOR * np.minimum.accumulate(result.val_loss))
    return int(np.argmax(above)) if above.any() else None


def curves(seeds: int, batch_sizes: Sequence[int] = BATCH_SIZES) -> list[dict]:
    """Runs the tests; each is its losses, with the update at which it has diverged."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    found = []
    for batch_size in batch_sizes:
        model = keras.Sequential(
            [keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
        for seed in range(seeds):
            keras.utils.set_random_seed(seed)
            fresh = keras.models.clone_model(model)
            for trained in (False, True):
                if trained:
                    fresh.compile(keras.optimizers.Adam(0.003), loss)
                    fresh.fit(x, y, epochs=30, batch_size=128, verbose=0)
                model.set_weights(fresh.get_weights())
                result = lr_find(
                    model,
                    x,
                    y,
                    batch_size=batch_size,
                    stop_factor=None,
                    cycle_steps=0,
                    validation_data=(x, y),
                    validation_freq=1,
                    validation_batch_size=len(x),
                    verbose=0,
                )
                found.append(
                    {
                        "batch_size": batch_size,
                        "trained": trained,
                        "seed": seed,
                        "losses": [float(f"{v:.4g}") for v in result.loss],
                        "diverged_at": diverged_at(result),
                    }
                )
        print(f"batch size {batch_size}: {len(found)} tests", flush=True)
    return found


def markdown(found: list[dict]) -> str:
    """Returns the false stops of each rule by batch size, and how many updates a real divergence goes on."""
    header = ["batch size", "net", "tests"]
    header += [
        f"{name}: {what}" for name in RULES for what in ("stops at noise", "updates too many")
    ]
    rows = []
    for batch_size, trained in itertools.product(BATCH_SIZES, (False, True)):
        tests = [t for t in found if (t["batch_size"], t["trained"]) == (batch_size, trained)]
        row = [batch_size, "trained" if trained else "untrained", len(tests)]
        for rule in RULES.values():
            stops = [(rule(np.array(t["losses"])), t["diverged_at"]) for t in tests]
            early = [s for s, d in stops if s is not None and (d is None or s < d)]
            late = [(s if s is not None else 99) - d for s, d in stops if d is not None]
            late = [n for n in late if n >= 0]
            row += [len(early), f"{np.median(late):.0f}" if late else "none diverged"]
        rows.append(row)
    return table(header, rows)


def main() -> None:
    """Runs the tests and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=20, help="tests of each kind")
    parser.add_argument("--small", action="store_true", help="only to see that it runs")
    add_save(parser)
    arguments = parser.parse_args()
    found = curves(1, BATCH_SIZES[-1:]) if arguments.small else curves(arguments.seeds)
    write(__file__, found, markdown(found), save=arguments.save)


if __name__ == "__main__":
    main()
