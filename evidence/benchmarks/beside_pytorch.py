"""What one cycle and the range test add to the plain training loop, in Keras and in PyTorch.

usage: python -m evidence.benchmarks.beside_pytorch [--torch-python PATH] [--frameworks NAME ...] [--rounds N]
                                           [--steps N] [--save] [--small]

| | Keras on TensorFlow, on JAX | PyTorch |
| --- | --- | --- |
| plain loop | `fit` | forward, `backward`, `step` over a `DataLoader`, eager |
| one cycle | `fit` with `OneCycle` | the same with `OneCycleLR.step()` each batch |
| range test | `lr_find` | torch-lr-finder's `LRFinder.range_test` and `reset` |

All with the same perceptron, the same random data in batches of 128, SGD with momentum 0.9, momentum
cycled too, and no progress bars. The range test goes over 100 steps and never stops early. Each is
compared with the plain loop of its own framework, for as many steps, on a new model each time. Keras
traces and compiles at the start of each `fit`, so there are two figures: of the whole call, and of the
steps after the first epoch alone. (PyTorch has nothing to compile here. What restores the model
afterwards is in the whole only.)

Each framework runs in a process of its own, which lives on; the processes take turns, one measurement
each, and no two measure at once.

PyTorch is no part of this project's environment: `--torch-python` names a Python that has it, with
torch-lr-finder. Where there is none, an error says how to make one.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from evidence.benchmarks.measuring import rounds, saving
from evidence.pages import table

PLAIN, ONE_CYCLE, RANGE_TEST, SHORT = "plain", "one cycle", "range test", "plain, 100 steps"
FRAMEWORKS = ("tensorflow", "jax", "pytorch")
LABELS = {"tensorflow": "Keras on TensorFlow", "jax": "Keras on JAX", "pytorch": "PyTorch"}

BATCH_SIZE, INPUTS, UNITS, CLASSES = 128, 64, 256, 10
EPOCH = 50  # Steps; those of a range test are two epochs.
TEST_STEPS = 2 * EPOCH
MAX_LR = 0.1

HOW_TO_GET = (
    "An environment of its own will do:\n"
    "  python3 -m venv torch-env && torch-env/bin/pip install torch torch-lr-finder\n"
    "  python -m evidence.benchmarks.beside_pytorch --torch-python torch-env/bin/python"
)

# Seconds of the whole call, and of one step after the first epoch.
Measured = dict[str, float]


def batches() -> tuple[np.ndarray, np.ndarray]:
    """Returns the inputs and labels of an epoch."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EPOCH * BATCH_SIZE, INPUTS)).astype("float32")
    return x, rng.integers(0, CLASSES, len(x))


def in_keras(kind: str, steps: int) -> Measured:
    """Measures a call of `fit` or of `lr_find` on a new model."""
    import keras

    from keras_onecycle import OneCycle, lr_find

    class Ends(keras.callbacks.Callback):
        """Notes when each epoch ended."""

        def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
            self.times: list[float] = []

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            self.times.append(time.perf_counter())

    x, y = batches()
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.Input((INPUTS,)), dense(UNITS, "relu"), dense(UNITS, "relu"), dense(CLASSES)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(MAX_LR / 10, momentum=0.9), loss)
    ends = Ends()
    common = {"batch_size": BATCH_SIZE, "verbose": 0}
    began = time.perf_counter()
    if kind == RANGE_TEST:
        test = {"num_steps": TEST_STEPS, "stop_factor": None, "cycle_steps": 0}
        lr_find(model, x, y, callbacks=[ends], **test, **common)
    else:
        cycle = [OneCycle(MAX_LR)] if kind == ONE_CYCLE else []
        model.fit(x, y, epochs=steps // EPOCH, callbacks=[*cycle, ends], **common)
    whole = time.perf_counter() - began
    return {"whole": whole, "step": (ends.times[-1] - ends.times[0]) / (steps - EPOCH)}


def in_pytorch(kind: str, steps: int) -> Measured:
    """Measures a loop, or a range test, on a new model."""
    import torch
    from torch_lr_finder import LRFinder

    x, y = batches()
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    model = torch.nn.Sequential(
        linear(INPUTS, UNITS), relu(), linear(UNITS, UNITS), relu(), linear(UNITS, CLASSES)
    )
    criterion = torch.nn.CrossEntropyLoss()
    tested_from = 1e-6 if kind == RANGE_TEST else MAX_LR / 10
    optimizer = torch.optim.SGD(model.parameters(), tested_from, momentum=0.9)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    began = time.perf_counter()
    if kind == RANGE_TEST:
        finder = LRFinder(model, optimizer, criterion)
        finder.range_test(loader, end_lr=10, num_iter=TEST_STEPS, diverge_th=float("inf"))
        tested = time.perf_counter() - began
        finder.reset()
        return {"whole": time.perf_counter() - began, "step": tested / TEST_STEPS}
    schedule = None
    if kind == ONE_CYCLE:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=steps)
    for epoch in range(steps // EPOCH):
        # The mean loss of an epoch, as `fit` keeps it.
        total = torch.zeros(())
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            total += loss.detach()
        total.item()
        if epoch == 0:
            first_ended = time.perf_counter()
    ended = time.perf_counter()
    return {"whole": ended - began, "step": (ended - first_ended) / (steps - EPOCH)}


def work(framework: str) -> None:
    """Says what it runs on, then measures what is asked for, line by line, until nothing more is."""
    answers = sys.stdout
    measure = in_pytorch if framework == "pytorch" else in_keras
    if framework == "pytorch":
        import torch

        versions: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    else:
        versions = saving.environment()
    print(json.dumps(versions), file=answers, flush=True)
    for line in sys.stdin:
        # torch-lr-finder prints to where the answers go.
        with contextlib.redirect_stdout(io.StringIO()):
            measured = measure(**json.loads(line))
        print(json.dumps(measured), file=answers, flush=True)


class Worker:
    """A process that measures in one framework."""

    def __init__(self, framework: str, python: str) -> None:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1"}
        if framework != "pytorch":
            environment["KERAS_BACKEND"] = framework
        self._process = subprocess.Popen(
            [python, "-m", "evidence.benchmarks.beside_pytorch", "--worker", framework],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.versions = self._read()

    def measure(self, kind: str, steps: int) -> Measured:
        """Returns what the process measured."""
        print(json.dumps({"kind": kind, "steps": steps}), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """Lets the process end."""
        self._process.communicate()

    def _read(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"A worker ended by itself, with status {self._process.wait()}.")
        return json.loads(line)


def has_pytorch(python: str) -> bool:
    """Returns whether a Python has what is needed of PyTorch."""
    command = [python, "-c", "import torch, torch_lr_finder"]
    try:
        return not subprocess.run(command, check=False, capture_output=True).returncode
    except OSError:
        return False


def row(label: str, of: list[float], over: list[float], unit: float, form: str) -> list[str]:
    """Returns label, ratio, what is added and both, the last three in units of so many seconds."""
    ours, plain = ([value / unit for value in values] for values in (of, over))
    added = statistics.median(ours) - statistics.median(plain)
    return [
        label,
        rounds.spread(rounds.ratios(ours, plain), ".2f"),
        f"{added:{form}}",
        rounds.spread(ours, form),
        rounds.spread(plain, form),
    ]


def tables(measured: dict[str, dict[str, list[Measured]]]) -> str:
    """Returns the ratios of every framework over its own plain loop."""
    parts = []
    for what, reference in ((ONE_CYCLE, PLAIN), (RANGE_TEST, SHORT)):
        for key, of, unit, name, form in (
            ("step", "a step, once compiled", 1e-3, "ms", ".3f"),
            ("whole", "the whole call", 1.0, "s", ".2f"),
        ):
            lines = [
                row(
                    LABELS[framework],
                    [one[key] for one in kinds[what]],
                    [one[key] for one in kinds[reference]],
                    unit,
                    form,
                )
                for framework, kinds in measured.items()
            ]
            header = [
                f"{what}, {of}",
                "of the plain loop",
                f"added, {name}",
                f"with it, {name}",
                f"plain, {name}",
            ]
            parts.append(table(header, lines))
    return "\n\n".join(parts)


def main() -> None:
    """Starts a process for each framework and lets them take turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", help="a Python with PyTorch (default: this one)")
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    parser.add_argument("--steps", type=int, default=1000, help="of a training (default: 1000)")
    saving.add_save(parser)
    parser.add_argument(
        "--small", action="store_true", help="one short round; no PyTorch is no error"
    )
    parser.add_argument("--worker", choices=FRAMEWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker)
        return
    if arguments.small:
        arguments.rounds, arguments.steps = 1, TEST_STEPS
    if arguments.rounds < 1 or arguments.steps < TEST_STEPS or arguments.steps % EPOCH:
        parser.error(
            f"--rounds must be at least 1, --steps a multiple of {EPOCH} and at least {TEST_STEPS}"
        )
    torch_python = arguments.torch_python or sys.executable
    frameworks = list(arguments.frameworks)
    if "pytorch" in frameworks and not has_pytorch(torch_python):
        missing = f"{torch_python} has no PyTorch with torch-lr-finder. {HOW_TO_GET}"
        if not arguments.small:
            sys.exit(missing)
        print(missing, file=sys.stderr)
        frameworks.remove("pytorch")

    workers = {
        name: Worker(name, torch_python if name == "pytorch" else sys.executable)
        for name in frameworks
    }
    contestants: dict[tuple[str, str], Callable[[], Measured]] = {
        (name, kind): partial(worker.measure, kind, steps)
        # What is compared goes one after the other.
        for name, worker in workers.items()
        for kind, steps in (
            (PLAIN, arguments.steps),
            (ONE_CYCLE, arguments.steps),
            (SHORT, TEST_STEPS),
            (RANGE_TEST, TEST_STEPS),
        )
    }
    for warm_up in contestants.values():  # Imports, allocators, thread pools.
        warm_up()
    results = rounds.in_turns(contestants, arguments.rounds)
    for worker in workers.values():
        worker.close()
    measured: dict[str, dict[str, list[Measured]]] = {name: {} for name in workers}
    for (name, kind), values in results.items():
        measured[name][kind] = values
    content = {
        "steps": arguments.steps,
        "range_test_steps": TEST_STEPS,
        "rounds": arguments.rounds,
        "versions": {name: worker.versions for name, worker in workers.items()},
        "seconds": measured,
    }
    saving.write(__file__, content, tables(measured), save=arguments.save)


if __name__ == "__main__":
    main()
