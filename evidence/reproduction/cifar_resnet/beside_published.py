"""Test accuracy against epochs with all of CIFAR-10: ours beside the published."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evidence.pages import table
from evidence.reproduction import MissingRunError
from evidence.reproduction.cifar_resnet.figures import grid_text
from evidence.reproduction.cifar_resnet.trainings import Trainings, accuracies
from evidence.reproduction.drawing import draw_ends, finish, panels, save, spread
from evidence.reproduction.length_factor import HOW, factor
from examples.cifar10.settings import read_json

# What is trained at this size.
OF_PRESETS = ("resnet20", "accelerator")
POLICIES = {
    "one_cycle": "one cycle",
    "piecewise": "piecewise constant",
    "cosine": "cosine with a warm-up",
}
TICKS = (15, 30, 50, 70, 100, 164, 400, 800, 1600)


class Published(NamedTuple):
    """A published training; `epochs` is None where the length is not told."""

    policy: str
    epochs: int | None
    accuracy: float
    source: str


# By the depth of the network. The paper has 10,000 and 80,000 updates of 1,000 images.
PUBLISHED = {
    20: (
        Published("one_cycle", None, 90.42, "the authors' logs"),
        Published("piecewise", None, 88.64, "the authors' logs"),
        Published("piecewise", 164, 91.25, "He et al."),
    ),
    56: (
        Published("one_cycle", 50, 92.31, "fastai"),
        Published("one_cycle", 70, 93.08, "fastai"),
        Published("one_cycle", 95, 93.53, "fastai"),
        Published("one_cycle", 200, 92.4, "Smith & Topin"),
        Published("piecewise", 164, 93.03, "He et al."),
        Published("piecewise", 1600, 91.2, "Smith & Topin"),
    ),
}


def full_size(of_presets: Sequence[Trainings], pictures: Path) -> str:
    """Draws what is trained of the presets, and returns the table with the published beside it."""
    ours = {one.preset.base.depth: reached(one) for one in of_presets}
    ours = {depth: found for depth, found in sorted(ours.items()) if found}
    if not ours:
        raise MissingRunError("No training with all of CIFAR-10 is done.")
    rows = []
    axes = panels(len(ours), height=4.5)
    for ax, (depth, found) in zip(axes, ours.items(), strict=True):
        published = PUBLISHED.get(depth, ())
        lengths = {epochs for policy in found.values() for epochs in policy}
        for number, (policy, label) in enumerate(POLICIES.items()):
            color = f"C{number}"
            if ends := found.get(policy):
                draw_ends(ax, list(ends), list(ends.values()), color=color, fmt="o-", label=label)
            elif any(one.policy == policy for one in published):
                ax.plot([], [], "o-", color=color, label=label)
            for one in published:
                if one.policy == policy and one.epochs:
                    ax.plot(one.epochs, one.accuracy, "o", color=color, mfc="white")
                    ax.annotate(
                        f" {one.source}", (one.epochs, one.accuracy), fontsize="x-small", va="top"
                    )
                    lengths.add(one.epochs)
            rows += _rows(depth, policy, found, published)
        ax.plot([], [], "o", color="gray", mfc="white", label="published")
        ax.set_title(f"ResNet-{depth}")
        ax.set_xscale("log")
        ax.set_xlim(0.85 * min(lengths), 1.6 * max(lengths))
        ticks = [n for n in TICKS if min(lengths) <= n <= max(lengths)]
        ax.set_xticks(ticks, [str(epochs) for epochs in ticks])
        ax.minorticks_off()
        finish(ax, "epochs of the training", "test accuracy at its end (%)")
    save(pictures, "full-size", axes[0])
    header = ["network", "policy", "epochs", "published, %", "here, %", "factor"]
    text = (
        f"{table(header, rows)}\n\nThe factor is how many times the epochs piecewise-constant training "
        f"needs to match one cycle. {HOW}"
    )
    if grids := "\n".join(line for one in of_presets for line in tuned(one)):
        text += (
            "\n\nTo tune the learning rates, one seed that is not among those above was trained at each rate "
            f"of a grid. Its test accuracy (%):\n\n{grids}"
        )
    return text


def tuned(trainings: Trainings) -> list[str]:
    """Returns a line for each policy: the accuracy at each rate of the grid that is trained."""
    grids: dict[str, dict[float, float]] = {}
    for path in trainings.results.glob(f"*-seed={trainings.preset.tuning_seed}/results.json"):
        run = read_json(path)
        name = f"{POLICIES[run['settings']['policy']]}, {run['settings']['epochs']} epochs"
        grids.setdefault(name, {})[run["settings"]["max_lr"]] = run["test_accuracy"]
    depth = trainings.preset.base.depth
    return [
        f"- {grid_text(f'ResNet-{depth}, {name}', dict(sorted(grid.items())))}"
        for name, grid in sorted(grids.items())
    ]


def reached(trainings: Trainings) -> dict[str, dict[int, np.ndarray]]:
    """Returns the accuracies of the seeds, by policy and epochs, of what is trained of a preset."""
    preset = trainings.preset
    lengths = {
        "one_cycle": preset.cycle_epochs,
        "piecewise": preset.baseline_epochs,
        "cosine": preset.cosine_epochs or (preset.base.epochs,),
    }
    found: dict[str, dict[int, np.ndarray]] = {}
    for policy, epochs in ((policy, n) for policy, of in lengths.items() for n in of):
        try:
            rate, _ = trainings.best_lr(policy)
            runs = trainings.runs(policy=policy, max_lr=rate, epochs=epochs)
        except MissingRunError:
            continue
        found.setdefault(policy, {})[epochs] = accuracies(runs)
    return found


def _rows(
    depth: int,
    policy: str,
    found: dict[str, dict[int, np.ndarray]],
    published: Sequence[Published],
) -> list[list[str]]:
    """Returns a row for each length of a policy, and for each published training without one."""
    ends = found.get(policy, {})
    of_policy = [one for one in published if one.policy == policy]
    lengths = sorted({*ends, *(one.epochs for one in of_policy if one.epochs)})
    rows = []
    for epochs in (*lengths, None):
        told = [f"{one.accuracy:g} ({one.source})" for one in of_policy if one.epochs == epochs]
        if told or epochs in ends:
            here = spread(ends[epochs]) if epochs in ends else ""
            times = ""
            if policy == "one_cycle" and epochs in ends:
                times = factor(ends[epochs], epochs, found.get("piecewise", {}))
            name = f"ResNet-{depth}"
            rows.append([name, POLICIES[policy], epochs or "", ", ".join(told), here, times])
    return rows
