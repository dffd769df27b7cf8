"""Images a second of a processor's core: ResNet-20 in plain PyTorch, and in Keras on each backend.

usage: python -m evidence.benchmarks.resnet_beside_pytorch [--torch-python PATH] [--rounds N] [--steps N]
                                                 [--save] [--small]

The same network, SGD with momentum, batches of 128, in float32 and with bfloat16. Keras's own layers stand
beside those of examples/cifar10/kernels.py. Each framework has a process of its own, which is bound to one
core; the processes take turns. What counts is processor time, so that other work on the machine has
little part in it. PyTorch is no part of this project's environment: `--torch-python` names a Python
that has it, with Keras.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from evidence.benchmarks.measuring import rounds, saving
from evidence.pages import table
from examples.cifar10.precision import processor

LABELS = {
    "pytorch": "PyTorch alone",
    "torch": "Keras on PyTorch",
    "tensorflow": "Keras on TensorFlow",
    "jax": "Keras on JAX",
}
PRECISIONS = ("mixed_bfloat16", "float32")
LAYERS = ("the example's", "Keras's")


def in_keras(
    precision: str, layers: str, depth: int, x: np.ndarray, y: np.ndarray, batch_size: int
) -> Callable[[], None]:
    """Returns what trains on all batches once."""
    import keras

    from examples.cifar10 import kernels, resnet

    own = layers == LAYERS[0]
    resnet.Convolution = kernels.Convolution if own else keras.layers.Conv2D
    resnet.Normalization = kernels.Normalization if own else keras.layers.BatchNormalization
    keras.config.set_dtype_policy(precision)
    model = resnet.resnet(depth)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return partial(model.fit, x, y, batch_size=batch_size, shuffle=False, verbose=0)


def in_pytorch(
    precision: str, depth: int, x: np.ndarray, y: np.ndarray, batch_size: int
) -> Callable[[], None]:
    """Returns what trains on all batches once."""
    import torch

    from evidence.reproduction.cifar_resnet.pytorch_reference import resnet

    model = resnet(depth).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4)
    images = torch.tensor(x).permute(0, 3, 1, 2)
    labels = torch.tensor(y)

    def epoch() -> None:
        for batch, of_batch in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16"):
                logits = model(batch).float()
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(logits, of_batch)
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def work(framework: str) -> None:
    """Measures what the lines on the standard input ask for; only answers go to the standard output."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    answers, sys.stdout = sys.stdout, sys.stderr
    versions = saving.environment()
    if framework in ("pytorch", "torch"):
        import torch

        torch.set_num_threads(1)
        versions["torch"] = torch.__version__
    print(json.dumps(versions), file=answers, flush=True)
    built: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if line not in built:
            rng = np.random.default_rng(0)
            size = asked["steps"] * asked["batch_size"]
            x = rng.standard_normal((size, 32, 32, 3)).astype("float32")
            of_all = {"depth": asked["depth"], "x": x, "y": rng.integers(0, 10, size)}
            of_all |= {"precision": asked["precision"], "batch_size": asked["batch_size"]}
            if framework == "pytorch":
                built[line] = in_pytorch(**of_all)
            else:
                built[line] = in_keras(layers=asked["layers"], **of_all)
            built[line]()  # Compiles.
        began = time.process_time()
        built[line]()
        seconds = time.process_time() - began
        rate = asked["steps"] * asked["batch_size"] / seconds
        print(json.dumps(rate), file=answers, flush=True)


class Worker:
    """A process that measures in one framework."""

    def __init__(self, framework: str, python: str) -> None:
        of_keras = {"KERAS_BACKEND": "torch" if framework == "pytorch" else framework}
        self._process = subprocess.Popen(
            [python, "-m", "evidence.benchmarks.resnet_beside_pytorch", "--worker", framework],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", **of_keras},
        )
        self.versions = self._read()

    def measure(self, asked: dict[str, Any]) -> float:
        """Returns images a second."""
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """Lets the process end."""
        self._process.communicate()

    def _read(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"A worker ended by itself, with status {self._process.wait()}.")
        return json.loads(line)


def markdown(results: dict[str, Any]) -> str:
    """Returns the rows in Markdown, beside PyTorch alone in the same precision."""
    alone = {row["precision"]: row["rates"] for row in results["rows"] if row["layers"] is None}
    rows = sorted(
        results["rows"],
        key=lambda row: (row["precision"], statistics.median(row["rates"])),
        reverse=True,
    )
    return table(
        ["precision", "framework", "layers", "images/s of a core", "of PyTorch's own loop"],
        [
            [
                row["precision"],
                LABELS[row["framework"]],
                row["layers"] or "",
                rounds.spread(row["rates"], ".0f"),
                f"{statistics.median(rounds.ratios(row['rates'], alone[row['precision']])):.2f}",
            ]
            for row in rows
        ],
    )


def main(command_line: Sequence[str] | None = None) -> None:
    """Starts a process for each framework and lets them take turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--torch-python", default=sys.executable, help="a Python with PyTorch and Keras")
    add("--rounds", type=int, default=5, help="turns of each (default: 5)")
    add("--steps", type=int, default=8, help="of a turn (default: 8)")
    add("--depth", type=int, default=20)
    add("--batch-size", type=int, default=128)
    add(
        "--small",
        action="store_true",
        help="one short round of a small network; no PyTorch is no error",
    )
    add("--worker", choices=tuple(LABELS), help=argparse.SUPPRESS)
    saving.add_save(parser)
    arguments = parser.parse_args(command_line)
    if arguments.worker:
        work(arguments.worker)
        return
    if arguments.small:
        arguments.rounds = arguments.steps = 1
        arguments.depth, arguments.batch_size = 8, 8
    frameworks = list(LABELS)
    wanted = [arguments.torch_python, "-c", "import torch, keras"]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    if subprocess.run(wanted, check=False, capture_output=True, env=environment).returncode:
        missing = f"{arguments.torch_python} has no PyTorch with Keras: name one that has by --torch-python"
        if not arguments.small:
            sys.exit(missing)
        print(missing, file=sys.stderr)
        frameworks = ["tensorflow", "jax"]
    workers = {
        name: Worker(name, arguments.torch_python if "torch" in name else sys.executable)
        for name in frameworks
    }
    fixed = {name: getattr(arguments, name) for name in ("depth", "batch_size", "steps")}
    rows: dict[str, dict[str, Any]] = {}
    turns = {}
    for precision in PRECISIONS:
        for framework, worker in workers.items():
            for layers in (None,) if framework == "pytorch" else LAYERS:
                row = {"framework": framework, "precision": precision, "layers": layers}
                asked = {**fixed, "precision": precision, "layers": layers}
                rows[str(row)] = row
                turns[str(row)] = partial(worker.measure, asked)
    for name, rates in rounds.in_turns(turns, arguments.rounds).items():
        rows[name]["rates"] = rates
    for worker in workers.values():
        worker.close()
    content = {
        **fixed,
        "processor": processor(),
        "versions": {name: worker.versions for name, worker in workers.items()},
        "rows": list(rows.values()),
    }
    if "pytorch" in workers:
        saving.write(__file__, content, markdown(content), save=arguments.save)
    else:
        print(json.dumps(content["rows"]))


if __name__ == "__main__":
    main()
