"""What `OneCycle` costs a step, and before the first: beside plain `fit`, `CosineDecay` and a callback.

usage: python -m evidence.benchmarks.callback_cost [--rounds N] [--backends tensorflow jax] [--save] [--small]

Compared are, for the same weights and data under SGD with momentum 0.9:

- plain: `fit` with a constant learning rate;
- CosineDecay: Keras's schedule inside the optimizer, of the learning rate alone. It runs twice, and how
  far it is from itself tells what ratio means nothing;
- host callback: one that sets `optimizer.learning_rate` before each batch (with `steps_per_execution=32`
  that is once in 32 steps: less work, and not the same training);
- OneCycle: learning rate and momentum.

All `fit`s of a model are under way together and take turns, a short epoch each, in another order every
round. That is done again with new models, since two of the same, compiled one after the other, differ by more
than what is measured. Of each, the least processor time of all rounds counts: what others do on the machine
can only add to it. An epoch is timed from the first batch to the last, so compilation is not in it.

The time to the first step is that of a `fit` of one batch, on a new model each time. The first
evaluation at the end of an epoch comes after it, and is told apart too. The time of a second `fit`,
on the same model, shows that `OneCycle` compiles anew each time.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evidence.benchmarks.measuring import each_backend
from evidence.benchmarks.measuring.rounds import in_turns, ratios, spread
from evidence.benchmarks.measuring.saving import environment
from evidence.pages import table

PLAIN, COSINE, AGAIN = "plain", "CosineDecay", "CosineDecay again"
HOST, OURS = "host callback", "OneCycle"
LR = 1e-3


def contestants(total_steps: int) -> dict[str, Callable[[], tuple[Any, list[Any]]]]:
    """Returns functions that make the optimizer and the callbacks of each."""
    import keras

    from keras_onecycle import OneCycle

    class HostCallback(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
            self.step = 0

        def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            cosine = math.cos(math.pi * self.step / total_steps)
            self.model.optimizer.learning_rate = LR * (1 + cosine) / 2
            self.step += self.model.steps_per_execution

    def sgd(learning_rate: Any = LR) -> keras.Optimizer:
        return keras.optimizers.SGD(learning_rate, momentum=0.9)

    def cosine() -> tuple[keras.Optimizer, list[keras.callbacks.Callback]]:
        return sgd(keras.optimizers.schedules.CosineDecay(LR, total_steps)), []

    return {
        PLAIN: lambda: (sgd(), []),
        COSINE: cosine,
        AGAIN: cosine,
        HOST: lambda: (sgd(), [HostCallback()]),
        OURS: lambda: (sgd(), [OneCycle(LR, total_steps)]),
    }


@dataclass(frozen=True)
class Plan:
    """How much of a model is measured: steps an epoch, rounds, and how often with new models."""

    steps: int
    rounds: int
    again: int


def epochs_of_all(
    subject: Any, steps: int, steps_per_execution: int, rounds: int
) -> dict[str, list[Any]]:
    """Returns the epochs of each contestant, on new models, in turns."""
    from evidence.benchmarks.measuring.fits_in_turns import WARM_UP, Fit, epochs_in_turns

    epochs = WARM_UP + rounds
    fits = {}
    x, y = subject.data(steps)
    for name, make in contestants(epochs * steps).items():
        optimizer, callbacks = make()
        model = subject.model(optimizer, steps_per_execution=steps_per_execution)
        arguments = {"callbacks": callbacks, "batch_size": subject.batch_size}
        fits[name] = Fit(model, x, y, epochs=epochs, **arguments)
    return epochs_in_turns(fits, rounds)


def step_cost(subject: Any, plan: Plan, steps_per_execution: int) -> dict[str, Any]:
    """Measures the steps of each contestant."""
    steps = max(plan.steps, steps_per_execution)
    sets = [
        epochs_of_all(subject, steps, steps_per_execution, plan.rounds) for _ in range(plan.again)
    ]

    def column(key: str, per: float = 1.0) -> dict[str, list[float]]:
        return {
            name: [getattr(epoch, key) / per for epochs in sets for epoch in epochs[name]]
            for name in sets[0]
        }

    return {
        "subject": subject.name,
        "steps_per_execution": steps_per_execution,
        "seconds_per_step": column("steps", steps),
        "cpu_seconds_per_step": column("steps_cpu", steps),
        "callback_seconds_per_epoch": column("callbacks"),
    }


def first_step_cost(subject: Any, rounds: int) -> dict[str, Any]:
    """Measures the time to the end of the first step of each contestant, in turns."""
    import keras

    x, y = subject.data(1)

    class FirstStep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            self.ended = time.perf_counter()
            self.ended_cpu = time.process_time()

    def run(make: Callable[[], tuple[Any, list[Any]]]) -> dict[str, float]:
        keras.utils.clear_session()
        optimizer, callbacks = make()
        model = subject.model(optimizer)
        measured = {}
        for when in ("first", "second"):
            end = FirstStep()
            began, began_cpu = time.perf_counter(), time.process_time()
            model.fit(x, y, batch_size=len(x), verbose=0, callbacks=[end, *callbacks])
            measured[when] = end.ended - began
            measured[f"{when}_cpu"] = end.ended_cpu - began_cpu
        return measured

    makers = {n: make for n, make in contestants(100).items() if n in (PLAIN, COSINE, OURS)}
    for make in makers.values():
        run(make)
    measured = in_turns(
        {name: lambda make=make: run(make) for name, make in makers.items()}, rounds
    )
    return {
        "subject": subject.name,
        **{
            key: {name: [one[key] for one in of] for name, of in measured.items()}
            for key in ("first", "first_cpu", "second", "second_cpu")
        },
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures everything on the backend of this process."""
    from evidence.benchmarks.measuring.models import Dense, ManyVariables, ResNet

    rounds = arguments.rounds
    if arguments.small:
        plans = {Dense(1_000, 8): Plan(2, rounds, 1), ManyVariables(4, 8): Plan(2, rounds, 1)}
        executions, first_rounds = (2,), 1
    else:
        plans = {
            # The smallest difference to be seen, and the quickest to measure.
            Dense(70_000, 32): Plan(64, 6 * rounds, 3),
            ManyVariables(450, 8): Plan(8, 3 * rounds, 2),
            ResNet(20, 8): Plan(4, rounds, 2),
        }
        executions, first_rounds = (1, 32), max(5, rounds)

    def say(what: str) -> None:
        print(f"{environment()['backend']}: {what}", file=sys.stderr, flush=True)

    steps, first = [], []
    for subject, plan in plans.items():
        for execution in executions:
            say(f"{subject.name}, steps_per_execution {execution}")
            steps.append(step_cost(subject, plan, execution))
    for subject in plans:
        # 450 variables take TensorFlow long to trace, and show nothing that others do not.
        if not isinstance(subject, ManyVariables):
            say(f"{subject.name}, first step")
            first.append(first_step_cost(subject, first_rounds))
    return {"environment": environment(), "steps": steps, "first_step": first}


def least(row: dict[str, list[float]], name: str, beside: str) -> str:
    """Returns the ratio of the least of all rounds: what others do on the machine only adds."""
    return f"{min(row[name]) / min(row[beside]):.3f}"


def markdown(results: dict[str, Any]) -> dict[str, str]:
    """Returns the tables."""
    steps = []
    for backend, result in results.items():
        for row in result["steps"]:
            wall, cpu = row["seconds_per_step"], row["cpu_seconds_per_step"]
            steps.append(
                [
                    backend,
                    row["subject"],
                    row["steps_per_execution"],
                    least(cpu, OURS, COSINE),
                    least(cpu, AGAIN, COSINE),
                    least(cpu, OURS, PLAIN),
                    least(cpu, OURS, HOST),
                    f"{1e3 * min(wall[OURS]):.3g}",
                ]
            )
    first = []
    for backend, result in results.items():
        for row in result["first_step"]:
            wall, second = row["first"], row["second"]
            first.append(
                [
                    backend,
                    row["subject"],
                    spread(ratios(wall[OURS], wall[COSINE])),
                    spread(ratios(wall[OURS], wall[PLAIN])),
                    *(f"{statistics.median(of[OURS]):.2f}" for of in (wall, second)),
                ]
            )
    return {
        "step": table(
            [
                "backend",
                "model",
                "steps at once",
                "/ CosineDecay",
                "noise",
                "/ plain",
                "/ callback",
                "ms",
            ],
            steps,
        ),
        "first_step": table(
            [
                "backend",
                "model",
                "OneCycle / CosineDecay",
                "OneCycle / plain `fit`",
                "OneCycle, s",
                "second `fit`, s",
            ],
            first,
        ),
    }


if __name__ == "__main__":
    each_backend.run(__file__, __doc__, measure, markdown, rounds=7)
