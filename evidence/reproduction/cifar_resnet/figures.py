"""The figures that the 1cycle policy is known by: what each trains and draws, and its table.

A figure is a function of the trainings. It asks for trainings, draws their results, and returns the
numbers for the page. With trainings that are not made, it draws from the files alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from evidence.pages import table
from evidence.reproduction.cifar_resnet.trainings import Trainings, accuracies
from evidence.reproduction.drawing import (
    draw_course,
    draw_ends,
    draw_range_tests,
    finish,
    panels,
    save,
    spread,
)
from evidence.reproduction.length_factor import HOW, factor
from examples.cifar10 import training


def draw_runs(
    ax: Axes, runs: Sequence[Mapping[str, Any]], key: str, label: str, **style: Any
) -> None:
    """Draws a quantity against the updates: the mean of the seeds, and their span."""
    steps = runs[0]["updates"] / runs[0]["settings"]["epochs"]
    x = [(row["epoch"] + 1) * steps for row in runs[0]["history"] if key in row]
    values = np.array([[row[key] for row in run["history"] if key in row] for run in runs])
    if key.endswith("accuracy"):
        values = 100 * values
    draw_course(ax, x, values, marker="o", markersize=3, label=label, **style)


def grid_text(name: str, grid: Mapping[float, float]) -> str:
    """Returns the test accuracy at each learning rate of the grid, the best one marked."""
    best = max(grid, key=grid.get)
    cells = [
        f"{'**' if lr == best else ''}{lr:g}: {100 * acc:.2f}{'**' if lr == best else ''}"
        for lr, acc in grid.items()
    ]
    return f"{name}: {', '.join(cells)}"


def super_convergence(trainings: Trainings) -> str:
    """Figure 1."""
    best, grids = {}, {}
    for policy in trainings.preset.rates or ("one_cycle", "cosine", "piecewise"):
        best[policy], grids[policy] = trainings.best_lr(policy)
    of_length = {
        policy: [trainings.runs(policy=policy, max_lr=best[policy], epochs=n) for n in lengths]
        for policy, lengths in (
            ("one_cycle", trainings.preset.cycle_epochs),
            ("piecewise", trainings.preset.baseline_epochs),
        )
    }
    cycles, piecewise = of_length["one_cycle"], of_length["piecewise"]
    kinds = {"one cycle": cycles, "piecewise constant": piecewise}
    if "cosine" in best:
        lengths = trainings.preset.cosine_epochs or (trainings.preset.base.epochs,)
        kinds["CosineDecay with warm-up"] = [
            trainings.runs(policy="cosine", max_lr=best["cosine"], epochs=n) for n in lengths
        ]
    axes = panels(2)
    for number, (label, kind) in enumerate(kinds.items()):
        for runs, line in zip(kind, cycle(("-", "--", ":", "-.")), strict=False):
            name = f"{label}, {runs[0]['updates']} updates"
            draw_runs(axes[0], runs, "val_accuracy", name, color=f"C{number}", linestyle=line)
    finish(axes[0], "optimizer updates", "test accuracy (%)")
    for label, kind in kinds.items():
        reached = [accuracies(runs) for runs in kind]
        updates = [runs[0]["updates"] for runs in kind]
        draw_ends(axes[1], updates, reached, fmt="o-", label=label)
    axes[1].set_xscale("log")
    lengths = sorted({runs[0]["updates"] for runs in (*cycles, *piecewise)})
    axes[1].set_xticks(lengths, [str(length) for length in lengths])
    axes[1].minorticks_off()
    finish(axes[1], "optimizer updates of the whole training", "test accuracy (%) at its end")
    save(trainings.pictures, "super-convergence", axes[0])

    others = {runs[0]["updates"]: accuracies(runs) for runs in piecewise}
    rows = [
        [
            label,
            f"{runs[0]['settings']['max_lr']:g}",
            runs[0]["updates"],
            spread(accuracies(runs)),
            factor(accuracies(runs), runs[0]["updates"], others) if label == "one cycle" else "",
        ]
        for label, kind in kinds.items()
        for runs in kind
    ]
    header = ["training", "max. learning rate", "updates", "test accuracy (%)", "factor"]
    text = (
        f"{table(header, rows)}\n\n"
        "The factor is the number of updates that piecewise-constant training needs to match one cycle, "
        f"divided by one cycle's updates. {HOW}\n\n"
    )
    if trainings.preset.rates:
        return text + "The learning rates are given, not tuned."
    grid_lines = "\n".join(
        f"- {grid_text(policy.replace('_', ' '), grid)}" for policy, grid in grids.items()
    )
    length = "for the shortest one cycle and CosineDecay, and for the middle length of piecewise constant"
    if trainings.preset.tuning_epochs is not None:
        length = f"in {trainings.preset.tuning_epochs} epochs"
    return text + (
        "Each learning rate is the best of one grid, by the test accuracy (%) of a seed that is not among "
        f"those above, {length}:\n\n{grid_lines}"
    )


def range_tests(trainings: Trainings) -> str:
    """Figure 2."""
    lengths = (trainings.preset.short_range_test, trainings.preset.long_range_test)
    axes, numbers = draw_range_tests(
        {n: trainings.range_tests(num_steps=n, validate=True) for n in lengths}
    )
    save(trainings.pictures, "range-test", axes[0])
    return numbers


def large_lr_regularizes(trainings: Trainings) -> str:
    """Figure 3."""
    low, high = 0.2, 2.0
    axes = panels(2)
    # By seed: training loss, test loss and their difference, each over the first and last third of the rates.
    thirds = []
    results = trainings.range_tests(num_steps=trainings.preset.long_range_test, validate=True)
    for number, result in enumerate(results):
        inside = (result.lr >= low) & (result.lr <= high)
        at_tests = (result.val_lr >= low) & (result.val_lr <= high)
        rates, window = result.val_lr[at_tests], _window(result.loss)
        training_loss = np.interp(rates, result.lr, window)
        test_loss = result.val_loss[at_tests]
        gap = test_loss - training_loss
        labels = ("training loss", "test loss") if number == 0 else (None, None)
        axes[0].plot(result.lr[inside], window[inside], color="C0", label=labels[0])
        style = {"color": "C1", "marker": "o", "markersize": 3}
        axes[0].plot(rates, test_loss, label=labels[1], **style)
        axes[1].plot(rates, gap, **style)
        third = max(1, len(rates) // 3)
        thirds.append(
            [(v[:third].mean(), v[-third:].mean()) for v in (training_loss, test_loss, gap)]
        )
    axes[0].set_ylim(0, min(6, axes[0].get_ylim()[1]))
    finish(axes[0], "learning rate", "loss")
    finish(axes[1], "learning rate", "test loss minus training loss", legend=False)
    save(trainings.pictures, "large-lr-regularizes", axes[0])
    names = ("training loss", "test loss", "test loss minus training loss")
    rows = [
        [name, *(spread(np.array(seeds), 3) for seeds in zip(*of_seeds, strict=True))]
        for name, of_seeds in zip(names, zip(*thirds, strict=True), strict=True)
    ]
    first, last = rates[third - 1], rates[-third]
    return table(["mean over", f"LR {low:g} to {first:.2g}", f"LR {last:.2g} to {high:g}"], rows)


def schedule(trainings: Trainings) -> str:
    """Figure 4."""
    rate = trainings.preset.base.max_lr or 3.0
    total = 10_000
    settings = replace(trainings.preset.base, max_lr=rate)
    axes = panels(2)
    training.one_cycle(settings, total).plot(axes)
    save(trainings.pictures, "schedule", axes[0])
    return f"`OneCycle(max_lr={rate:g})` over {total} updates, with every other argument at its default."


def batch_size(trainings: Trainings) -> str:
    """Figure 5."""
    axes = panels(2)
    rows = []
    for size in trainings.preset.batch_sizes:
        # As many images for each; a range test of less than 30 updates says nothing.
        steps = max(
            30, trainings.preset.short_range_test * trainings.preset.base.batch_size // size
        )
        rate = float(
            f"{trainings.range_test(num_steps=steps, batch_size=size).suggest('valley'):.2g}"
        )
        runs = trainings.runs(batch_size=size, max_lr=rate)
        draw_by_epoch(axes, runs, f"{size}, LR {rate:g}")
        losses = np.array([run["test_loss"] for run in runs], dtype=float)
        rows.append(
            [size, f"{rate:g}", runs[0]["updates"], spread(accuracies(runs)), spread(losses, 3)]
        )
    save(trainings.pictures, "batch-size", axes[0])
    return table(
        ["batch size", "LR by `valley`", "updates", "test accuracy (%)", "test loss"], rows
    )


def momentum(trainings: Trainings) -> str:
    """Figure 6."""
    rate, _ = trainings.best_lr("one_cycle")
    kinds: dict[str, dict[str, Any]] = {"cyclical, 0.95 to 0.85": {}}
    for value in (0.8, 0.85, 0.9, 0.95):
        kinds[f"constant {value}"] = {"cycle_momentum": False, "momentum": value}
    if trainings.preset.momentum_at_equal_steps:
        # The same rate / (1 - momentum) as the cycle at its highest rate, where its momentum is lowest.
        lowest = trainings.preset.base.base_momentum
        for value in (0.9, 0.95):
            lower = float(f"{rate * (1 - value) / (1 - lowest):.3g}")
            constant = {"cycle_momentum": False, "momentum": value, "max_lr": lower}
            kinds[f"constant {value}, rates to {lower:g}"] = constant
    axes = panels(2)
    rows = []
    for label, changes in kinds.items():
        runs = trainings.runs(**{"max_lr": rate, **changes})
        draw_by_epoch(axes, runs, label)
        rows.append([label, spread(accuracies(runs))])
    save(trainings.pictures, "momentum", axes[0])
    return f"{table(['momentum', 'test accuracy (%)'], rows)}\n\nAll with `max_lr={rate:g}`."


def weight_decay(trainings: Trainings) -> str:
    """Figure 7."""
    rate, _ = trainings.best_lr("one_cycle")
    axes = panels(2)
    rows = []
    for value in trainings.preset.weight_decays:
        result = trainings.range_test(
            num_steps=trainings.preset.short_range_test, weight_decay=value
        )
        axes[0].plot(result.lr, result.smoothed_loss, label=f"{value:g}")
        runs = trainings.runs(max_lr=rate, weight_decay=value)
        draw_runs(axes[1], runs, "val_accuracy", f"{value:g}")
        rows.append([f"{value:g}", spread(accuracies(runs))])
    finish(axes[0], "learning rate", "training loss of the range test, smoothed")
    finish(axes[1], "optimizer updates", "test accuracy (%)")
    save(trainings.pictures, "weight-decay", axes[0])
    return f"{table(['weight decay', 'test accuracy (%)'], rows)}\n\nAll with `max_lr={rate:g}`."


def limited_data(trainings: Trainings) -> str:
    """Figure 8."""
    base, longer = trainings.preset.base, trainings.preset.baseline_epochs[1]
    whole = base.num_train or 50_000
    one_lr, _ = trainings.best_lr("one_cycle")
    piecewise_lr, _ = trainings.best_lr("piecewise")
    baseline = f"piecewise constant, {longer / base.epochs:g} times the updates"
    accuracy: dict[str, list[np.ndarray]] = {"one cycle": [], baseline: []}
    rows = []
    for images in trainings.preset.subsets:
        # As many updates on each, as in the paper: more epochs on fewer images.
        times = whole / images
        changes = {"num_train": images}
        one = trainings.runs(max_lr=one_lr, epochs=round(base.epochs * times), **changes)
        piecewise = trainings.runs(
            policy="piecewise", max_lr=piecewise_lr, epochs=round(longer * times), **changes
        )
        accuracy["one cycle"].append(accuracies(one))
        accuracy[baseline].append(accuracies(piecewise))
        rows.append(
            [
                images,
                f"{spread(accuracies(one))}, {one[0]['updates']} updates",
                f"{spread(accuracies(piecewise))}, {piecewise[0]['updates']} updates",
            ]
        )
    (ax,) = panels(1)
    for label, values in accuracy.items():
        draw_ends(ax, trainings.preset.subsets, values, marker="o", label=label)
    finish(ax, "training images", "test accuracy (%)")
    save(trainings.pictures, "limited-data", ax)
    return table(["training images", "one cycle", "piecewise constant"], rows)


def architectures(trainings: Trainings) -> str:
    """Figure 9."""
    one_lr, _ = trainings.best_lr("one_cycle")
    piecewise_lr, _ = trainings.best_lr("piecewise")
    axes = panels(len(trainings.preset.depths))
    rows = []
    for ax, depth in zip(axes, trainings.preset.depths, strict=True):
        one = trainings.runs(depth=depth, max_lr=one_lr)
        piecewise = trainings.runs(depth=depth, policy="piecewise", max_lr=piecewise_lr)
        draw_runs(ax, one, "val_accuracy", "one cycle")
        draw_runs(ax, piecewise, "val_accuracy", "piecewise constant")
        ax.set_title(f"ResNet-{depth}")
        finish(ax, "optimizer updates", "test accuracy (%)")
        rows.append([depth, spread(accuracies(one)), spread(accuracies(piecewise))])
    save(trainings.pictures, "architectures", axes[0])
    return (
        f"{table(['ResNet', 'one cycle', 'piecewise constant, as many updates'], rows)}\n\n"
        "Learning rates as chosen for figure 1."
    )


def draw_by_epoch(axes: Sequence[Axes], runs: Sequence[Mapping[str, Any]], label: str) -> None:
    """Draws test accuracy and test loss against the epoch."""
    for ax, key, name in zip(
        axes, ("val_accuracy", "val_loss"), ("test accuracy (%)", "test loss"), strict=True
    ):
        scale = 100 if key == "val_accuracy" else 1
        epochs = [row["epoch"] + 1 for row in runs[0]["history"] if key in row]
        values = [[scale * row[key] for row in run["history"] if key in row] for run in runs]
        draw_course(ax, epochs, np.array(values), marker="o", markersize=3, label=label)
        if key == "val_loss":
            ax.set_ylim(0, 4)
        finish(ax, "epoch", name)


def _window(losses: np.ndarray, width: int = 25) -> np.ndarray:
    """Returns the mean over a window around each point, shorter at the ends."""
    kernel = np.ones(width)
    return np.convolve(losses, kernel, "same") / np.convolve(np.ones_like(losses), kernel, "same")


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
