"""How the costs of `OneCycle` and `lr_find` grow with the model, and the schedule's with its length.

usage: python -m evidence.benchmarks.scale [--rounds 9] [--backends tensorflow jax] [--save] [--small]

Parameters go from 10^4 to 10^8, in dense models under SGD with momentum. Plain `fit`, `fit` with
`OneCycle` and `fit` with `LRFinder` are under way together and take turns, an epoch each; the ratios
are of epochs of the same round. Memory is how far the process rose at most (Linux's VmHWM) while each
of them trained anew, above plain training, in copies of the variables.

Schedules go from 10^3 to 10^9 steps. Timed is the compiled evaluation of learning rate and momentum,
beside `CosineDecay`. Their error is against fractions, around a tenth of the cycle (for 10^9 steps, step
10^8) and in its last thousand steps; beside it that of Keras's `PolynomialDecay` between the same
values, which counts in float32. The error of an update is that of the learning rate by which a weight
moved, in a compiled train step whose optimizer has made that many updates.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from evidence.benchmarks.measuring import each_backend, memory
from evidence.benchmarks.measuring.rounds import in_turns, ratios, spread
from evidence.benchmarks.measuring.saving import environment
from evidence.pages import table

PLAIN, CYCLE, FINDER = "plain", "OneCycle", "LRFinder"
LR = 1e-5
# Last values so far below the first that losing count shows.
MAX_LR, DIV, FINAL_DIV, PCT_START = 1.0, 10.0, 1e8, 0.45


def callbacks(name: str, steps: int) -> list[Any]:
    """Returns the callbacks of a contestant that trains so many steps."""
    from keras_onecycle import LRFinder, OneCycle

    if name == CYCLE:
        return [OneCycle(LR, steps)]
    if name == FINDER:
        return [LRFinder(min_lr=LR / 1e3, max_lr=LR, num_steps=steps, stop_factor=None)]
    return []


def optimizer() -> Any:
    """Returns what all train with."""
    import keras

    return keras.optimizers.SGD(LR, momentum=0.9)


def step_cost(subject: Any, steps: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Measures the steps of each contestant, in turns."""
    from evidence.benchmarks.measuring.fits_in_turns import WARM_UP, Fit, epochs_in_turns

    epochs = WARM_UP + rounds
    x, y = subject.data(steps)
    fits = {}
    for name in (PLAIN, CYCLE, FINDER):
        fits[name] = Fit(
            subject.model(optimizer()),
            x,
            y,
            epochs=epochs,
            callbacks=callbacks(name, epochs * steps),
            batch_size=subject.batch_size,
        )
    measured = epochs_in_turns(fits, rounds)
    return {
        key: {name: [getattr(e, attribute) / steps for e in of] for name, of in measured.items()}
        for key, attribute in (("wall", "steps"), ("cpu", "steps_cpu"))
    }


def memory_cost(subject: Any, rounds: int) -> dict[str, Any]:
    """Measures how far memory rises while each contestant trains, in turns."""
    import numpy as np

    x, y = subject.data(2)
    model = subject.model(optimizer())

    def rise(name: str) -> int:
        memory.forget_peak()
        before = memory.held()
        # Another step than the last time: plain training compiles too.
        model.train_function = None
        model.fit(x, y, batch_size=subject.batch_size, verbose=0, callbacks=callbacks(name, 2))
        return memory.peak() - before

    contestants = {name: lambda name=name: rise(name) for name in (PLAIN, CYCLE, FINDER)}
    for contestant in contestants.values():
        contestant()
    variables = (*model.variables, *model.optimizer.variables)
    return {
        "bytes": sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in variables),
        "rise": in_turns(contestants, rounds),
    }


def compiled(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns the function as the backend compiles it."""
    if environment()["backend"] == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, jit_compile=True)


def exact(step: int, total: int) -> Fraction:
    """Returns the learning rate of the cycle."""
    up = Fraction(PCT_START) * total
    ends = [Fraction(0), up - 1, 2 * up - 2, Fraction(total - 1)]
    high = Fraction(MAX_LR)
    low = high / Fraction(DIV)
    values = [low, high, low, low / Fraction(FINAL_DIV)]
    for (begin, end), (first, last) in zip(pairwise(ends), pairwise(values), strict=True):
        if step <= end:
            return first + (last - first) * (step - begin) / (end - begin)
    raise ValueError(f"step={step} is past total={total}")


def largest_error(got: Sequence[Any], wanted: Sequence[Fraction]) -> float:
    """Returns the largest relative error."""
    pairs = zip(got, wanted, strict=True)
    return max(float(abs(Fraction(float(value)) - right) / right) for value, right in pairs)


def schedule_cost(total: int, count: int, rounds: int) -> dict[str, Any]:
    """Measures the time and the error of the schedules of a cycle."""
    import keras
    import numpy as np

    from keras_onecycle import OneCycle

    cycle = OneCycle(
        MAX_LR, total, pct_start=PCT_START, div_factor=DIV, final_div_factor=FINAL_DIV
    ).schedules(total)
    both = compiled(lambda step: [schedule(step) for schedule in cycle.values()])
    cosine = compiled(keras.optimizers.schedules.CosineDecay(MAX_LR, total))
    low = MAX_LR / DIV
    decay = keras.optimizers.schedules.PolynomialDecay(low, total, low / FINAL_DIV)
    polynomial = compiled(decay)

    def tensor(steps: Any) -> Any:
        return keras.ops.convert_to_tensor(steps, dtype="int32")

    spread_out = tensor(np.linspace(0, total - 1, count).astype(int))

    def seconds(function: Callable[[Any], Any]) -> Callable[[], float]:
        def measure() -> float:
            began = time.perf_counter()
            keras.tree.map_structure(keras.ops.convert_to_numpy, function(spread_out))
            return (time.perf_counter() - began) / count

        return measure

    contestants = {CYCLE: seconds(both), "CosineDecay": seconds(cosine)}
    for contestant in contestants.values():
        contestant()
    last = np.arange(max(0, total - 1000), total)
    tenth = total // 10 + np.arange(min(1000, total // 10))
    lr = compiled(cycle["learning_rate"])

    def decayed(step: int) -> Fraction:
        first, end = Fraction(low), Fraction(low) / Fraction(FINAL_DIV)
        return end + (first - end) * (1 - Fraction(step, total))

    def error(
        function: Callable[[Any], Any], right: Callable[[int], Fraction], steps: Any
    ) -> float:
        got = keras.ops.convert_to_numpy(function(tensor(steps)))
        return largest_error(got, [right(int(step)) for step in steps])

    return {
        "total_steps": total,
        "seconds": in_turns(contestants, rounds),
        "error": {
            "tenth": error(lr, lambda step: exact(step, total), tenth),
            "last": error(lr, lambda step: exact(step, total), last),
            "update": update_error(total),
            "PolynomialDecay, tenth": error(polynomial, decayed, tenth),
            "PolynomialDecay, last": error(polynomial, decayed, last),
        },
    }


def update_error(total: int) -> float:
    """Returns the largest error of the learning rate that moved a weight, in a compiled train step."""
    import keras
    import numpy as np

    from keras_onecycle import OneCycle

    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), layer])
    # The gradient is 1, so that a step takes the learning rate off the weight.
    model.compile(keras.optimizers.SGD(0.5), loss=lambda y, output: keras.ops.mean(output))
    cycle = OneCycle(
        MAX_LR,
        total,
        pct_start=PCT_START,
        div_factor=DIV,
        final_div_factor=FINAL_DIV,
        cycle_momentum=False,
    )
    steps = [0, total // 10, total // 2, total - 10, total - 2, total - 1]
    one, got = np.ones((1, 1), "float32"), []
    with cycle.attach(model):
        for step in steps:
            model.optimizer.iterations.assign(step)
            layer.kernel.assign([[0.0]])
            model.train_on_batch(one, one)
            got.append(-float(layer.get_weights()[0][0, 0]))
    return largest_error(got, [exact(step, total) for step in steps])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures everything on the backend of this process."""
    from evidence.benchmarks.measuring.models import Dense

    backend = environment()["backend"]
    steps_of_turn = {10**4: 128, 10**5: 128, 10**6: 32, 10**7: 8, 10**8: 2}
    totals, count = (10**3, 10**6, 10**9), 2**20
    if arguments.small:
        steps_of_turn, totals, count = {10**3: 2}, (10**3, 10**9), 2**10
    models = []
    for parameters, steps in steps_of_turn.items():
        print(f"{backend}: {parameters:.0e} parameters", file=sys.stderr, flush=True)
        subject = Dense(parameters, 8)
        models.append(
            {
                "parameters": parameters,
                "seconds_per_step": step_cost(subject, steps, arguments.rounds),
                "memory": memory_cost(subject, arguments.rounds),
            }
        )
    print(f"{backend}: schedules", file=sys.stderr, flush=True)
    schedules = [schedule_cost(total, count, arguments.rounds) for total in totals]
    return {"environment": environment(), "models": models, "schedules": schedules}


def memory_cells(row: dict[str, Any]) -> list[str]:
    """Returns the size of the variables, and what each holds more than plain training."""
    size, rise = row["bytes"], row["rise"]
    held = [memory.more(rise[name], rise[PLAIN], size) for name in (CYCLE, FINDER)]
    return [f"{size / 2**20:.3g}", *held]


def markdown(results: dict[str, Any]) -> dict[str, str]:
    """Returns the tables."""
    models, schedules = [], []
    for backend, result in results.items():
        for row in result["models"]:
            wall, cpu = row["seconds_per_step"]["wall"], row["seconds_per_step"]["cpu"]
            models.append(
                [
                    backend,
                    f"{row['parameters']:.0e}",
                    spread(ratios(wall[CYCLE], wall[PLAIN])),
                    spread(ratios(cpu[CYCLE], cpu[PLAIN])),
                    spread(ratios(wall[FINDER], wall[PLAIN])),
                    spread(ratios(cpu[FINDER], cpu[PLAIN])),
                    *(f"{statistics.median(wall[n]) * 1e3:.3g}" for n in wall),
                    *memory_cells(row["memory"]),
                ]
            )
        for row in result["schedules"]:
            seconds, error = row["seconds"], row["error"]
            schedules.append(
                [
                    backend,
                    f"{row['total_steps']:.0e}",
                    spread(ratios(seconds[CYCLE], seconds["CosineDecay"]), ".2f"),
                    *(f"{statistics.median(seconds[n]) * 1e9:.3g}" for n in seconds),
                    *(f"{value:.1e}" for value in error.values()),
                ]
            )
    return {
        "step": table(
            [
                "backend",
                "parameters",
                "OneCycle / plain",
                "by processor time",
                "LRFinder / plain",
                "by processor time",
                "plain, ms",
                "OneCycle, ms",
                "LRFinder, ms",
                "variables, MiB",
                "OneCycle holds more",
                "LRFinder holds more",
            ],
            models,
        ),
        "schedule": table(
            [
                "backend",
                "steps in the cycle",
                "OneCycle / CosineDecay",
                "OneCycle, ns",
                "CosineDecay, ns",
                "error around a tenth",
                "in the last thousand steps",
                "in a train step",
                "PolynomialDecay's around a tenth",
                "in the last thousand steps",
            ],
            schedules,
        ),
    }


if __name__ == "__main__":
    each_backend.run(__file__, __doc__, measure, markdown, rounds=9)
