"""The figures of the papers with LeNet on MNIST: what each trains and draws, and its table.

A figure is a function of the trainings. It asks for trainings, draws their results, and returns the numbers
for the page.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from evidence.pages import table
from evidence.reproduction import MissingRunError
from evidence.reproduction.drawing import (
    draw_course,
    draw_ends,
    draw_range_tests,
    finish,
    panels,
    save,
    seeds,
    spread,
)
from evidence.reproduction.length_factor import HOW, factor
from evidence.reproduction.mnist_lenet.lenet import NETWORKS, Run, one_cycle, run
from evidence.reproduction.mnist_lenet.trainings import RATES, TUNING_SEED, Trainings, accuracies

# An accuracy, in percent, below which a training has not learnt.
DIVERGED = 50.0
EPOCHS = 12
# The best of the grid for step, in 12 and in 25 epochs; the paper's for one cycle.
STEP_LR, CYCLE_LR = 0.03, 0.1
# The policies that are compared at equal tuning.
TUNED = {
    "one_cycle": "one cycle",
    "step": "step",
    "cosine": "cosine",
    "warmup_cosine": "cosine with a warm-up",
}

# The rows of the paper's table, with mean and standard deviation in percent.
PUBLISHED: dict[str, tuple[Run, float, float]] = {
    "one cycle 0.01-0.1, 12 epochs": (run("one_cycle", 0.1, 12), 99.25, 0.03),
    "one cycle 0.01-0.1, 25 epochs": (run("one_cycle", 0.1, 25), 99.28, 0.06),
    "one cycle 0.01-0.1, 50 epochs": (run("one_cycle", 0.1, 50), 99.27, 0.07),
    "one cycle 0.02-0.2, 85 epochs": (run("one_cycle", 0.2, 85), 99.35, 0.03),
    "inv 0.01, 85 epochs": (run("inv", 0.01, 85), 99.03, 0.04),
    "step 0.01, 85 epochs": (run("step", 0.01, 85), 99.00, 0.04),
}
# What the paper's table does not have.
BESIDE = {
    "inv 0.01, 12 epochs": run("inv", 0.01, 12),
    "one cycle 0.01-0.1, 12 epochs, Caffe's initializer": run(
        "one_cycle", 0.1, 12, initializer="lecun_uniform"
    ),
    "one cycle 0.01-0.1, 12 epochs, Caffe's initializer and bias rates": run(
        "one_cycle", 0.1, 12, initializer="lecun_uniform", bias_lr=2.0
    ),
    "cosine 0.1 with a warm-up, 12 epochs": run("warmup_cosine", 0.1, 12),
}
# What stands in the first picture, with its style and how far it is moved to the right.
DRAWN: dict[str, tuple[list[Run], str, str, float]] = {
    "one cycle, 0.01-0.1": ([run("one_cycle", 0.1, n) for n in (12, 25, 50)], "C0", "o-", 1.0),
    "one cycle, 0.02-0.2": ([run("one_cycle", 0.2, 85)], "C0", "D", 1.0),
    "one cycle, tuned: 0.03-0.3": (
        [run("one_cycle", RATES[-1], n) for n in (12, 25)],
        "C0",
        "P:",
        1.0,
    ),
    "inv, 0.01": ([run("inv", 0.01, 85)], "C1", "s", 0.95),
    "step, 0.01": ([run("step", 0.01, 85)], "C2", "^", 1.0),
    "step, tuned: 0.03": ([run("step", STEP_LR, n) for n in (12, 25, 85)], "C2", "v--", 1.05),
    "cosine with a warm-up, 0.1": ([run("warmup_cosine", 0.1, 12)], "C3", "X", 1.05),
}
# Those of which the course of a training is shown, too, with this line.
COURSES = {
    "one cycle, 0.01-0.1": (0, "-"),
    "step, 0.01": (0, "-"),
    "step, tuned: 0.03": (-1, "--"),
    "cosine with a warm-up, 0.1": (0, ":"),
}


def super_convergence(trainings: Trainings) -> str:
    """Figure 1."""
    drawn = [one for runs, *_ in DRAWN.values() for one in runs]
    asked = dict.fromkeys([*drawn, *(one for one, *_ in PUBLISHED.values()), *BESIDE.values()])
    found = dict(zip(asked, trainings.of(*asked), strict=True))
    ends, courses = panels(2, height=4.9)
    for label, (runs, color, style, right) in DRAWN.items():
        done = [accuracies(learnt(found[one])) for one in runs]
        at = [right * one.epochs for one in runs]
        draw_ends(ends, at, done, color=color, fmt=style, label=label)
        for one, mean, deviation in PUBLISHED.values():
            if one in runs:
                beside = 1.07 * right * one.epochs
                ends.errorbar(beside, mean, deviation, color=color, fmt=style[0], mfc="white")
        if label in COURSES:
            number, line = COURSES[label]
            name = f"{label}, {runs[number].epochs} epochs"
            _draw_course(courses, found[runs[number]], name, color=color, linestyle=line)
    ends.errorbar([], [], [], color="gray", fmt="o", mfc="white", label="published")
    ends.set_xscale("log")
    ends.set_xticks([12, 25, 50, 85], ["12", "25", "50", "85"])
    ends.minorticks_off()
    finish(ends, "epochs of the training", "test accuracy at the end (%)", legend=False)
    ends.legend(fontsize="small", ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    courses.set_ylim(97.5, 99.4)
    finish(courses, "epoch", "test accuracy (%), mean and span")
    save(trainings.pictures, "super-convergence", ends)
    rows = [
        [label, f"{mean:.2f} ± {deviation:.2f}", ended(found[one])]
        for label, (one, mean, deviation) in PUBLISHED.items()
    ]
    rows += [[label, "", ended(found[one])] for label, one in BESIDE.items()]
    return "\n\n".join(
        [
            table(["policy", "published, %", "here, %"], rows),
            "With equal tuning: each policy at the best rate of one grid, chosen by the test accuracy of a "
            "seed that is not among the others.",
            tuned(trainings),
        ]
    )


def tuned(trainings: Trainings) -> str:
    """Returns the tables of each policy at its best rate of one grid, and of the epochs that others need."""
    rows, missing = [], []
    lengths: dict[str, dict[int, np.ndarray]] = {policy: {} for policy in TUNED}
    for policy, epochs in ((policy, epochs) for epochs in (12, 25, 85) for policy in TUNED):
        try:
            best, grid = trainings.best_lr(policy, epochs)
            (results,) = trainings.of(run(policy, best, epochs))
        except MissingRunError:
            missing.append(f"{TUNED[policy]} in {epochs} epochs")
            continue
        lengths[policy][epochs] = accuracies(learnt(results))
        cells = ["diverged" if end < DIVERGED else f"{end:.2f}" for end in grid.values()]
        rows.append([TUNED[policy], epochs, *cells, ended(results)])
    header = ["policy", "epochs", *(f"{rate:g}" for rate in RATES), "best, %"]
    parts = [table(header, rows)] + ([f"Not tuned: {', '.join(missing)}."] if missing else [])
    others = {policy: lengths[policy] for policy in ("step", "cosine") if lengths[policy]}
    if others:
        parts += [
            f"How many times as many epochs step and cosine decay need, tuned, to match one cycle. {HOW}",
            _factors(trainings, others),
        ]
    return "\n\n".join(parts)


def _factors(trainings: Trainings, others: Mapping[str, Mapping[int, np.ndarray]]) -> str:
    rows = []
    for epochs in (12, 25):
        # The paper's rate, and the grid's highest.
        for rate in (CYCLE_LR, RATES[-1]):
            try:
                (results,) = trainings.of(run("one_cycle", rate, epochs))
            except MissingRunError:
                continue
            wanted = accuracies(learnt(results))
            cells = [factor(wanted, epochs, lengths) for lengths in others.values()]
            rows.append([f"{rate:g}", epochs, ended(results), *cells])
    header = ["one cycle", "epochs", "test accuracy, %", *(f"{name} needs" for name in others)]
    return table(header, rows)


def range_tests(trainings: Trainings) -> str:
    """Figure 2."""
    one = run("one_cycle", CYCLE_LR, EPOCHS)
    axes, numbers = draw_range_tests(
        {n: trainings.range_tests(one, n, max_lr=0.5) for n in (100, 472)}
    )
    save(trainings.pictures, "range-test", axes[0])
    return numbers


def large_lr_regularizes(trainings: Trainings) -> str:
    """Figure 3."""
    runs = [run("one_cycle", rate, EPOCHS) for rate in RATES]
    # No rate is chosen here, so the seed of the grid is one like the others.
    trainings.make(replace(one, seed=TUNING_SEED) for one in runs)
    of_rates, ends = [], []
    for one, results in zip(runs, trainings.of(*runs), strict=True):
        grid = trainings.read(replace(one, seed=TUNING_SEED))
        with_grid = [*results, *([grid] if grid else [])]
        of_rates.append(learnt(with_grid))
        ends.append(ended(with_grid))
    losses = {
        "training loss": [np.array([r["loss"][-1] for r in results]) for results in of_rates],
        "test loss": [np.array([r["test_loss"][-1] for r in results]) for results in of_rates],
    }
    axes = panels(2)
    for label, values in losses.items():
        draw_ends(axes[0], RATES, values, marker="o", label=label)
    draw_ends(axes[1], RATES, [accuracies(results) for results in of_rates], marker="o")
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
        ax.minorticks_off()
    finish(axes[0], "highest learning rate", "loss after 12 epochs, penalty included")
    finish(axes[1], "highest learning rate", "test accuracy (%)", legend=False)
    save(trainings.pictures, "large-lr-regularizes", axes[0])
    rows = [
        [
            f"{rate:g}",
            *(spread(values[number], 4) for values in losses.values()),
            spread(losses["test loss"][number] - losses["training loss"][number], 4),
            ends[number],
        ]
        for number, rate in enumerate(RATES)
    ]
    header = ["highest rate", *losses, "difference", "test accuracy, %"]
    return table(header, rows)


def schedule(trainings: Trainings) -> str:
    """Figure 4."""
    axes = panels(2)
    one_cycle(run("one_cycle", CYCLE_LR, EPOCHS), total_steps=EPOCHS * 118).plot(axes)
    save(trainings.pictures, "schedule", axes[0])
    return f"The cycle of {EPOCHS} epochs of 118 updates, up to {CYCLE_LR:g}."


def batch_size(trainings: Trainings) -> str:
    """Figure 5."""
    runs = {}
    for size in (128, 512, 1024):
        rate, updates = CYCLE_LR * size / 512, -(-60_000 // size) * EPOCHS
        one = run("one_cycle", rate, EPOCHS, batch_size=size)
        runs[f"{size}", f"{rate:g}", f"{updates}"] = one
    return _compare(trainings, "batch-size", ("batch size", "highest rate", "updates"), runs)


def momentum(trainings: Trainings) -> str:
    """Figure 6."""
    runs = {("0.95 to 0.8",): run("one_cycle", CYCLE_LR, EPOCHS)}
    for value in (0.8, 0.85, 0.9, 0.95):
        runs[(f"{value:g}",)] = run("one_cycle", CYCLE_LR, EPOCHS, momentum=(value, value))
    return _compare(trainings, "momentum", ("momentum",), runs)


def weight_decay(trainings: Trainings) -> str:
    """Figure 7."""
    runs = {
        (f"{value:g}",): run("one_cycle", CYCLE_LR, EPOCHS, weight_decay=value)
        for value in (3e-3, 1e-3, 5e-4, 1e-4)
    }
    return _compare(trainings, "weight-decay", ("weight decay",), runs)


def limited_data(trainings: Trainings) -> str:
    """Figure 8."""
    sizes = (10_000, 20_000, 60_000)
    rates = {"one_cycle": CYCLE_LR, "step": STEP_LR}
    (ax,) = panels(1)
    cells: dict[str, list[str]] = {}
    for policy, rate in rates.items():
        found = trainings.of(*(run(policy, rate, 25, images=images) for images in sizes))
        cells[policy] = [ended(results) for results in found]
        label = f"{policy.replace('_', ' ')}, {rate:g}"
        ends = [accuracies(learnt(results)) for results in found]
        draw_ends(ax, sizes, ends, marker="o", label=label)
    finish(ax, "training images, 25 epochs", "test accuracy (%)")
    save(trainings.pictures, "limited-data", ax)
    rows = [[images, *row] for images, *row in zip(sizes, *cells.values(), strict=True)]
    header = ["images", f"one cycle, {CYCLE_LR:g}", f"step, {STEP_LR:g}"]
    return table(header, rows)


def architectures(trainings: Trainings) -> str:
    """Figure 9."""
    names = {"dense": "one dense layer of 500", "half": "LeNet, half as wide", "lenet": "LeNet"}
    axes = panels(len(names))
    rows = []
    for ax, (network, name) in zip(axes, names.items(), strict=True):
        runs = [
            run(policy, rate, EPOCHS, network=network)
            for policy, rate in (("one_cycle", CYCLE_LR), ("step", STEP_LR))
        ]
        found = trainings.of(*runs)
        for results, label in zip(found, ("one cycle", "step"), strict=True):
            _draw_course(ax, results, label)
        lowest = min(accuracies(learnt(results)).min(initial=100.0) for results in found)
        ax.set_ylim(lowest - 1.5)
        ax.set_title(name)
        finish(ax, "epoch", "test accuracy (%)")
        rows.append([name, NETWORKS[network], *map(ended, found)])
    save(trainings.pictures, "architectures", axes[0])
    header = ["network", "filters, units", f"one cycle, {CYCLE_LR:g}", f"step, {STEP_LR:g}"]
    return table(header, rows)


def learnt(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns those that did not diverge."""
    return [result for result in results if accuracies([result])[0] >= DIVERGED]


def ended(results: Sequence[Mapping[str, Any]]) -> str:
    """Returns the accuracy at the end, of those that did not diverge, and how many did."""
    kept = learnt(results)
    if not kept:
        return "diverged"
    lost = len(results) - len(kept)
    return spread(accuracies(kept)) + (f", {lost} diverged" if lost else "")


def _compare(
    trainings: Trainings, name: str, header: Sequence[str], runs: Mapping[tuple[str, ...], Run]
) -> str:
    """Draws how some trainings go, and returns the table of their ends, by what the header names."""
    axes = panels(2)
    rows = []
    for cells, results in zip(runs, trainings.of(*runs.values()), strict=True):
        _draw_course(axes[0], results, cells[0])
        _draw_course(axes[1], results, cells[0], key="test_loss")
        losses = np.array([result["test_loss"][-1] for result in learnt(results)])
        rows.append([*cells, ended(results), spread(losses, 4) if len(losses) else ""])
    axes[0].set_ylim(97.5, 99.5)
    axes[1].set_ylim(0.05, 0.25)
    finish(axes[0], "epoch", "test accuracy (%)", title=header[0])
    finish(axes[1], "epoch", "test loss, penalty included", title=header[0])
    save(trainings.pictures, name, axes[0])
    return table([*header, "test accuracy, %", "test loss"], rows)


def _draw_course(
    ax: Axes,
    results: Sequence[Mapping[str, Any]],
    label: str,
    key: str = "test_accuracy",
    **style: Any,
) -> None:
    """Draws the mean of the seeds after each epoch, and their span, of those that did not diverge."""
    course = np.array([result[key] for result in learnt(results)], dtype=float)
    if not len(course):
        return
    if key == "test_accuracy":
        course = 100 * course
    epoch = 1 + np.arange(course.shape[1])
    label = f"{label} ({seeds(len(course))})"
    draw_course(ax, epoch, course, label=label, **style)


FIGURES: dict[str, Callable[[Trainings], str]] = {
    "super-convergence": super_convergence,
    "range-test": range_tests,
    "large-lr-regularizes": large_lr_regularizes,
    "schedule": schedule,
    "batch-size": batch_size,
    "momentum": momentum,
    "weight-decay": weight_decay,
    "limited-data": limited_data,
    "architectures": architectures,
}
