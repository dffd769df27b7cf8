"""What `OneCycle` costs in instructions: a step, and all before the first, counted by valgrind.

usage: python benchmarks/instructions.py [--rounds N] [--backends tensorflow jax] [--out FILE.json] [--small]

Needs valgrind, and half an hour or more for each backend; other work on the machine does no harm. The
contestants are those of `callback_cost`, which tells the time. Time is what counts, but where others use
the machine too a percent of it is not to be seen; the instructions that the process executes, those of the
compiled steps among them, are the same from round to round to a percent or less. They leave out what it is
to wait: for memory, for another thread. The process has one core, and no AVX-512, which valgrind does not
know.

Counted is as `callback_cost` times: epochs in turns, from their first batch to their last; and `fit` of one
batch on a new model, to the end of its step. With `--small` nothing is counted, since valgrind takes minutes
to start: every figure is one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import backends
from callback_cost import AGAIN, COSINE, HOST, OURS, PLAIN, contestants
from rounds import environment, in_turns, ratios, spread, table


class Counter:
    """The instructions that this process has executed, where it runs in valgrind's callgrind.

    Args:
        folder: The folder that callgrind writes to.
        small: Boolean, whether not to count.
    """

    def __init__(self, folder: Path, small: bool) -> None:
        self._folder, self._small = folder, small

    def _control(self, option: str) -> None:
        if not self._small:
            control = subprocess.Popen(
                ["callgrind_control", option, str(os.getpid())], stdout=subprocess.DEVNULL
            )
            # valgrind answers at once while this process runs, and after seconds while it waits.
            while control.poll() is None:
                time.sleep(0.02)
            if control.returncode:
                raise RuntimeError(f"callgrind_control {option} failed.")

    def switch(self, on: bool) -> None:
        """Begins or ends counting. What runs without it is quicker."""
        self._control(f"--instr={'on' if on else 'off'}")

    def reset(self) -> None:
        """Sets the count to 0."""
        self._control("--zero")

    def read(self) -> int:
        """Returns the count, and sets it to 0."""
        if self._small:
            return 1
        self._control("--dump")
        (written,) = self._folder.glob("count.*")
        (total,) = [line for line in written.read_text().splitlines() if line.startswith("totals:")]
        written.unlink()
        return int(total.split()[1])


def step_counts(subject: Any, counter: Counter, *, steps: int, rounds: int) -> dict[str, Any]:
    """Counts the instructions of a step of each contestant, in turns."""
    import keras
    from fits import WARM_UP, Fit, epochs_in_turns

    class Begin(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            if epoch >= WARM_UP:
                counter.switch(on=True)
                counter.reset()

    class End(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.instructions: list[float] = []

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            if epoch >= WARM_UP:
                self.instructions.append(counter.read() / steps)

    epochs = WARM_UP + rounds
    x, y = subject.data(steps)
    fits, ends = {}, {}
    for name, make in contestants(epochs * steps).items():
        optimizer, callbacks = make()
        ends[name] = End()
        arguments = {
            "callbacks": [ends[name], *callbacks, Begin()],
            "batch_size": subject.batch_size,
        }
        fits[name] = Fit(subject.model(optimizer), x, y, epochs=epochs, **arguments)
    epochs_in_turns(fits, rounds)
    counter.switch(on=False)
    return {
        "subject": subject.name,
        "instructions": {name: end.instructions for name, end in ends.items()},
    }


def first_step_counts(subject: Any, counter: Counter, *, rounds: int) -> dict[str, Any]:
    """Counts the instructions to the end of the first step of each contestant, in turns."""
    import keras

    x, y = subject.data(1)
    counted: list[int] = []

    class End(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            counted.append(counter.read())

    def count(name: str) -> int:
        keras.utils.clear_session()
        optimizer, callbacks = contestants(100)[name]()
        model = subject.model(optimizer)
        counter.reset()
        model.fit(x, y, batch_size=len(x), verbose=0, callbacks=[End(), *callbacks])
        return counted.pop()

    names = [PLAIN, COSINE, HOST, OURS]
    for name in names:
        count(name)
    counter.switch(on=True)
    instructions = in_turns({name: lambda name=name: count(name) for name in names}, rounds)
    counter.switch(on=False)
    return {"subject": subject.name, "instructions": instructions}


def count(arguments: argparse.Namespace) -> dict[str, Any]:
    """Counts everything for one model, in this process."""
    if not arguments.small:
        # Before the backend makes its threads, so that it makes one of each kind.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from subjects import Dense, ManyVariables

    counter = Counter(arguments.count, arguments.small)
    if arguments.small:
        subject, steps = Dense(1_000, 8), 2
    else:
        # With the steps of an epoch: enough that what stands around them is nothing beside them.
        subject, steps = {
            "dense": (Dense(70_000, 32), 32),
            "many": (ManyVariables(450, 8), 8),
        }[arguments.subject]
    counts = step_counts(subject, counter, steps=steps, rounds=arguments.rounds)
    first = None
    if arguments.subject == "dense":
        first = first_step_counts(subject, counter, rounds=arguments.rounds)
    return {"steps": counts, "first_step": first}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Counts on the backend of this process, in one of valgrind's for each model."""
    if arguments.count is not None:
        return count(arguments)
    if not arguments.small and shutil.which("valgrind") is None:
        sys.exit("This needs valgrind, which Debian has as the package `valgrind`.")
    backend = os.environ["KERAS_BACKEND"]
    # Tracing 450 variables in TensorFlow, and a ResNet on both, are too much for valgrind.
    subjects = ["dense", "many"] if backend == "jax" else ["dense"]
    found = []
    for subject in subjects[:1] if arguments.small else subjects:
        print(f"{backend}: {subject}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            valgrind = [
                *("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no"),
                f"--callgrind-out-file={folder}/count",
            ]
            command = [
                *([] if arguments.small else valgrind),
                *(sys.executable, *sys.argv),
                *("--count", folder, "--subject", subject),
            ]
            done = subprocess.run(
                command,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "XLA_FLAGS": "--xla_cpu_max_isa=AVX2", "PYTHONHASHSEED": "0"},
            )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        "environment": environment(),
        "steps": [one["steps"] for one in found],
        "first_step": [one["first_step"] for one in found if one["first_step"]],
    }


def markdown(results: dict[str, Any]) -> str:
    """Returns the tables."""

    def cells(counts: dict[str, list[float]]) -> list[str]:
        pairs = ((OURS, COSINE), (OURS, HOST), (OURS, PLAIN), (COSINE, PLAIN))
        return [spread(ratios(counts[one], counts[other]), ".4f") for one, other in pairs]

    def millions(counts: list[float]) -> str:
        return spread([count / 1e6 for count in counts], ".2f")

    steps, first = [], []
    for backend, result in results.items():
        for row in result["steps"]:
            counts = row["instructions"]
            itself = spread(ratios(counts[AGAIN], counts[COSINE]), ".4f")
            what = [backend, row["subject"], *cells(counts)]
            steps.append([*what, itself, millions(counts[OURS])])
        for row in result["first_step"]:
            counts = row["instructions"]
            first.append([backend, row["subject"], *cells(counts), millions(counts[OURS])])
    compared = [
        *("OneCycle / CosineDecay", "OneCycle / host callback"),
        *("OneCycle / plain", "CosineDecay / plain"),
    ]
    return "\n\n".join(
        [
            "Instructions of a step: ratios, then millions. Medians of the rounds (quartiles).",
            table(
                ["backend", "model", *compared, "CosineDecay / itself", "OneCycle, millions"],
                steps,
            ),
            "Instructions from `fit` to the end of the first step of a new model.",
            table(["backend", "model", *compared, "OneCycle, millions"], first),
        ]
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the processes are told that count."""
    parser.add_argument("--count", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--subject", help=argparse.SUPPRESS)


if __name__ == "__main__":
    backends.run(__file__, __doc__, measure, markdown, rounds=3, add_arguments=add_arguments)
