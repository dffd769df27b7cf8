"""What the range test costs: `lr_find` with 100 steps beside 100 training steps of plain `fit`.

usage: python -m evidence.benchmarks.range_test_cost [--rounds 5] [--backends tensorflow jax] [--save]
                                            [--small]

In turns, each on a new model with the same weights: a `fit` of one batch, in which the step is compiled,
and then one of 100; and a call of `lr_find`. Its steps are timed from the end of the first to the end
of the last, and taken as 100; `fit`'s from the beginning to the end of an epoch. A whole call stands
beside the whole of training from a new model, compilation included on both sides. A third contestant is
the plain `fit` with a callback that reads the loss of each batch and does nothing else: what no range test
can do without.

Copying and restoring are timed apart, beside NumPy copying arrays of the same shapes. Peak memory
is what the process ever held in main memory (VmHWM): each measurement is of a process of its own, less
what a process of plain training held, in copies of all variables of model and optimizer.
"""

import argparse
import gc
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from evidence.benchmarks.measuring import each_backend, memory
from evidence.benchmarks.measuring.rounds import in_turns, ratios, spread
from evidence.benchmarks.measuring.saving import environment
from evidence.pages import table

PLAIN, READ, OURS = "plain", "plain, loss read", "lr_find"
NUMPY, COPY, RESTORE = "NumPy", "copy", "restore"
# So small that 100 updates change next to nothing, and nothing diverges.
LRS = {"min_lr": 1e-8, "max_lr": 1e-5}


def subjects(small: bool) -> list[Any]:
    """Returns what is trained."""
    from evidence.benchmarks.measuring.models import Dense, ResNet

    if small:
        return [Dense(1_000, 8)]
    return [ResNet(20, 8), Dense(50_000_000, 8, inputs=1024)]


def new_model(subject: Any) -> Any:
    """Returns the model of a subject, compiled."""
    import keras

    keras.utils.clear_session()
    # Models are in cycles of references, which wait for the collector.
    gc.collect()
    return subject.model(keras.optimizers.SGD(1e-5, momentum=0.9))


def train(subject: Any, steps: int, read_loss: bool = False) -> dict[str, float]:
    """Trains a new model, one step and then as many as are asked for."""
    import keras

    from evidence.benchmarks.measuring.fits_in_turns import Fit

    class ReadLoss(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            self.loss = float(logs["loss"])

    x, y = subject.data(steps)
    model = new_model(subject)
    began = time.perf_counter()
    model.fit(
        x[: subject.batch_size], y[: subject.batch_size], batch_size=subject.batch_size, verbose=0
    )
    first = time.perf_counter() - began
    callbacks = [ReadLoss()] if read_loss else []
    fit = Fit(model, x, y, epochs=1, callbacks=callbacks, batch_size=subject.batch_size)
    epoch = fit.epoch()
    fit.finish()
    of_step = epoch.steps / steps
    return {
        "steps": epoch.steps,
        "steps_cpu": epoch.steps_cpu,
        "whole": first + epoch.steps - of_step,
    }


def find(subject: Any, steps: int) -> dict[str, float]:
    """Calls `lr_find` on a new model."""
    import keras

    from keras_onecycle import lr_find

    class Ends(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
            self.wall: list[float] = []
            self.cpu: list[float] = []

        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())

    x, y = subject.data(steps)
    model = new_model(subject)
    ends = Ends()
    began = time.perf_counter()
    lr_find(
        model,
        x,
        y,
        batch_size=subject.batch_size,
        num_steps=steps,
        stop_factor=None,
        cycle_steps=0,
        verbose=0,
        callbacks=[ends],
        shuffle=False,
        **LRS,
    )
    whole = time.perf_counter() - began
    all_steps = steps / (steps - 1)
    return {
        "steps": (ends.wall[-1] - ends.wall[0]) * all_steps,
        "steps_cpu": (ends.cpu[-1] - ends.cpu[0]) * all_steps,
        "whole": whole,
    }


def copy_cost(subject: Any, rounds: int) -> dict[str, Any]:
    """Measures copying and restoring, and NumPy beside them."""
    import numpy as np

    from keras_onecycle._keras.snapshot import Snapshot

    model = new_model(subject)
    model.fit(*subject.data(1), batch_size=subject.batch_size, verbose=0)
    variables = (*model.variables, *model.optimizer.variables, *model.metrics_variables)
    arrays = [np.ones(variable.shape, variable.dtype) for variable in variables]
    snapshot = Snapshot(model)

    def timed(run: Callable[[], Any]) -> Callable[[], float]:
        def measure() -> float:
            began = time.perf_counter()
            # Held until the time is taken: to give memory back is not part of it.
            result = run()
            seconds = time.perf_counter() - began
            del result
            return seconds

        return measure

    contestants = {
        NUMPY: timed(lambda: [array.copy() for array in arrays]),
        COPY: timed(lambda: Snapshot(model)),
        RESTORE: timed(snapshot.restore),
    }
    for contestant in contestants.values():
        contestant()
    seconds = in_turns(contestants, rounds)
    return {"seconds": seconds, "bytes": sum(array.nbytes for array in arrays)}


def peak(subject: Any, name: str) -> int:
    """Runs one contestant for a few steps; returns the bytes that this process held at most."""
    (find if name == OURS else train)(subject, 3)
    return memory.peak()


def peaks(subject: Any, rounds: int) -> dict[str, list[int]]:
    """Measures peak memory, each time in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:

        def measure(name: str) -> int:
            return processes.submit(peak, subject, name).result()

        return in_turns({name: partial(measure, name) for name in (PLAIN, OURS)}, rounds)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures everything on the backend of this process."""
    steps = 4 if arguments.small else 100
    backend = environment()["backend"]
    rows = []
    for subject in subjects(arguments.small):
        print(f"{backend}: {subject.name}", file=sys.stderr, flush=True)
        contestants = {
            PLAIN: lambda subject=subject: train(subject, steps),
            READ: lambda subject=subject: train(subject, steps, read_loss=True),
            OURS: lambda subject=subject: find(subject, steps),
        }
        # What a process does only once.
        for run in (train, find):
            run(subject, 2)
        measured = in_turns(contestants, arguments.rounds)
        rows.append(
            {
                "subject": subject.name,
                "training": {
                    key: {name: [one[key] for one in of] for name, of in measured.items()}
                    for key in ("steps", "steps_cpu", "whole")
                },
                "state": copy_cost(subject, arguments.rounds),
                "peak_bytes": peaks(subject, arguments.rounds),
            }
        )
    return {"environment": environment(), "rows": rows}


def markdown(results: dict[str, Any]) -> dict[str, str]:
    """Returns the tables."""
    time_rows, state_rows = [], []
    for backend, result in results.items():
        for row in result["rows"]:
            steps, cpu, whole = (row["training"][key] for key in ("steps", "steps_cpu", "whole"))
            time_rows.append(
                [
                    backend,
                    row["subject"],
                    spread(ratios(steps[OURS], steps[PLAIN])),
                    spread(ratios(cpu[OURS], cpu[PLAIN])),
                    spread(ratios(steps[READ], steps[PLAIN])),
                    spread(ratios(cpu[READ], cpu[PLAIN])),
                    spread(ratios(whole[OURS], whole[PLAIN])),
                    *(
                        f"{statistics.median(of[name]):.2f}"
                        for of in (steps, whole)
                        for name in (PLAIN, OURS)
                    ),
                ]
            )
            seconds = row["state"]["seconds"]
            peak_bytes, size = row["peak_bytes"], row["state"]["bytes"]
            state_rows.append(
                [
                    backend,
                    row["subject"],
                    f"{size / 2**20:.4g}",
                    memory.more(peak_bytes[OURS], peak_bytes[PLAIN], size),
                    f"{statistics.median(peak_bytes[PLAIN]) / 2**20:.0f}",
                    spread(ratios(seconds[COPY], seconds[NUMPY]), ".2f"),
                    spread(ratios(seconds[RESTORE], seconds[NUMPY]), ".2f"),
                    *(f"{statistics.median(seconds[name]) * 1e3:.3g}" for name in seconds),
                ]
            )
    return {
        "steps": table(
            [
                "backend",
                "model",
                "steps: lr_find / plain",
                "by processor time",
                "steps: loss read / plain",
                "by processor time",
                "whole, compilation included: lr_find / plain",
                "steps: plain, s",
                "lr_find, s",
                "whole: plain, s",
                "lr_find, s",
            ],
            time_rows,
        ),
        "copy": table(
            [
                "backend",
                "model",
                "variables, MiB",
                "lr_find holds more than plain training",
                "which holds, MiB",
                "copy / NumPy's",
                "restore / NumPy's copy",
                "NumPy's copy, ms",
                "copy, ms",
                "restore, ms",
            ],
            state_rows,
        ),
    }


if __name__ == "__main__":
    each_backend.run(__file__, __doc__, measure, markdown, rounds=5)
