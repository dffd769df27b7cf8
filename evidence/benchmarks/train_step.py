"""Images a second that ResNets train at: backends and precisions side by side.

usage: python -m evidence.benchmarks.train_step [--depths 8 20] [--rounds 5] [--backends tensorflow jax]
                                       [--save] [--small]

Each backend runs in a process of its own. In it all models are compiled first and then take turns, so
that a change of the machine's speed meets all of them.
"""

import argparse
import itertools
import statistics
import sys
import time
from functools import partial
from typing import Any

from evidence.benchmarks.measuring import each_backend
from evidence.benchmarks.measuring.rounds import in_turns, spread
from evidence.benchmarks.measuring.saving import environment
from evidence.pages import table

PRECISIONS = ("float32", "mixed_bfloat16")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures every model on the backend of this process."""
    import keras
    import numpy as np

    from examples.cifar10.resnet import resnet

    depths, batch_size, steps = arguments.depths, arguments.batch_size, arguments.steps
    if arguments.small:
        depths, batch_size, steps = [8], 8, 1
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch_size * steps, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, len(x))
    rows = []
    for depth, precision in itertools.product(depths, PRECISIONS):
        keras.config.set_dtype_policy(precision)
        model = resnet(depth)
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        rows.append({"depth": depth, "precision": precision})
        rows[-1]["model"] = model
        began = time.perf_counter()
        model.fit(x[:batch_size], y[:batch_size], batch_size=batch_size, verbose=0)
        rows[-1]["seconds_to_first_step"] = time.perf_counter() - began
        print(f"{keras.backend.backend()}: compiled {len(rows)}", file=sys.stderr, flush=True)

    def images_per_second(row: dict[str, Any]) -> float:
        began = time.perf_counter()
        row["model"].fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
        return len(x) / (time.perf_counter() - began)

    turns = {str(number): partial(images_per_second, row) for number, row in enumerate(rows)}
    for row, measured in zip(rows, in_turns(turns, arguments.rounds).values(), strict=True):
        row["images_per_second"] = measured
    for row in rows:
        del row["model"]
    return {"environment": environment(), "batch_size": batch_size, "rows": rows}


def markdown(results: dict[str, Any]) -> str:
    """Returns the rows in Markdown, each beside the fastest of its depth."""
    rows = [
        (row, backend, statistics.median(row["images_per_second"]))
        for backend, result in results.items()
        for row in result["rows"]
    ]
    fastest: dict[int, float] = {}
    for row, _, median in rows:
        fastest[row["depth"]] = max(median, fastest.get(row["depth"], 0.0))
    lines = []
    for row, backend, median in sorted(rows, key=lambda of: (of[0]["depth"], -of[2])):
        lines.append(
            [
                row["depth"],
                backend,
                row["precision"],
                f"{median / fastest[row['depth']]:.2f}",
                spread(row["images_per_second"], ".0f"),
                f"{row['seconds_to_first_step']:.0f}",
            ]
        )
    header = [
        "ResNet",
        "backend",
        "precision",
        "of the fastest",
        "images/s",
        "first step, s",
    ]
    return table(header, lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is measured to the command line."""
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 20])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="of a round")


if __name__ == "__main__":
    each_backend.run(__file__, __doc__, measure, markdown, rounds=5, add_arguments=add_arguments)
