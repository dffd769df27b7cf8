"""Images a second that ResNets train at: backends, precisions, with and without XLA, side by side.

usage: python benchmarks/train_step.py [--depths 20 56] [--rounds 5] [--out FILE.json]

Each backend runs in a process of its own. In it all models are compiled first and then take turns, so
that a change of the machine's speed meets all of them.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BACKENDS = ("tensorflow", "jax")
PRECISIONS = ("float32", "mixed_bfloat16")
JIT = {"on": True, "off": False}


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures every model on the backend of this process."""
    import keras
    import numpy as np

    from keras_onecycle import models

    batch_size, steps = arguments.batch_size, arguments.steps
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch_size * steps, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, len(x))
    rows = []
    for depth, precision, jit in itertools.product(arguments.depths, PRECISIONS, JIT):
        keras.config.set_dtype_policy(precision)
        model = models.resnet(depth)
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=JIT[jit],
        )
        # JAX without jit runs operation by operation: one step tells enough.
        of_row = 1 if keras.backend.backend() == "jax" and jit == "off" else steps
        rows.append({"depth": depth, "precision": precision, "jit": jit, "steps": of_row})
        rows[-1]["model"] = model
        began = time.perf_counter()
        model.fit(x[:batch_size], y[:batch_size], batch_size=batch_size, verbose=0)
        rows[-1]["seconds_to_first_step"] = time.perf_counter() - began
        rows[-1]["images_per_second"] = []
        print(f"{keras.backend.backend()}: compiled {len(rows)}", file=sys.stderr, flush=True)
    for _ in range(arguments.rounds):
        for row in rows:
            images = row["steps"] * batch_size
            began = time.perf_counter()
            row["model"].fit(
                x[:images], y[:images], batch_size=batch_size, shuffle=False, verbose=0
            )
            row["images_per_second"].append(images / (time.perf_counter() - began))
    for row in rows:
        del row["model"]
        row["backend"] = keras.backend.backend()
        row["version"] = __import__(row["backend"]).__version__
        row["keras"] = keras.__version__
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows in Markdown, each beside the fastest of its depth."""
    lines = [
        "| ResNet | backend | precision | jit | of the fastest | images/s (min - max) | first step, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    median = {id(row): statistics.median(row["images_per_second"]) for row in rows}
    for row in sorted(rows, key=lambda row: (row["depth"], -median[id(row)])):
        speeds = row["images_per_second"]
        best = max(median[id(other)] for other in rows if other["depth"] == row["depth"])
        lines.append(
            f"| {row['depth']} | {row['backend']} | {row['precision']} | {row['jit']} "
            f"| {median[id(row)] / best:.2f} "
            f"| {median[id(row)]:.0f} ({min(speeds):.0f} - {max(speeds):.0f}) "
            f"| {row['seconds_to_first_step']:.0f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--out", type=Path, help="a JSON file for the raw figures")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.steps, arguments.batch_size) < 1:
        parser.error("--rounds, --steps and --batch-size must be at least 1")
    if arguments.here:
        print(json.dumps(measure(arguments)))
        return 0
    rows = []
    for backend in arguments.backends:
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, __file__, *sys.argv[1:], "--here"]
        run = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, text=True, env=environment
        )
        if run.returncode:
            return run.returncode
        rows += json.loads(run.stdout.splitlines()[-1])
    print(table(rows))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
