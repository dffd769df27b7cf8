"""Reproduces the figures that super-convergence is known by, one command each.

usage: python -m evidence.reproduction FIGURE [--task mnist-lenet|cifar-resnet] [--preset NAME] [--seeds N]
       python -m evidence.reproduction --redraw

FIGURE is one of super-convergence, range-test, large-lr-regularizes, schedule, batch-size, momentum,
weight-decay, limited-data, architectures; `all` makes all of them. A training that is done is not done
again, whichever figure asks for it. Pictures go to docs/super-convergence/, tables into the marked places
of the pages. With --redraw nothing is trained: what is there is drawn, of all figures if none is named.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from evidence.pages import ROOT, fill
from evidence.reproduction import SEEDS, MissingRunError
from evidence.reproduction.cifar_resnet import figures as cifar_figures
from evidence.reproduction.cifar_resnet import trainings as cifar_trainings
from evidence.reproduction.cifar_resnet.beside_published import OF_PRESETS, full_size
from evidence.reproduction.cifar_resnet.beside_reference import beside_reference
from evidence.reproduction.cifar_resnet.presets import PRESETS
from evidence.reproduction.mnist_lenet import figures as lenet_figures
from evidence.reproduction.mnist_lenet import trainings as lenet_trainings

FIGURES = {
    "mnist-lenet": lenet_figures.FIGURES,
    "cifar-resnet": cifar_figures.FIGURES,
}
NAMES = tuple(lenet_figures.FIGURES)
# Those on the pages: of a task and a preset, which figures.
ON_PAGES = (("mnist-lenet", "", NAMES),)


def trainings_of(task: str, preset: str, name: str, arguments: argparse.Namespace) -> Any:
    """Returns the trainings of a task, for a figure."""
    if task == "mnist-lenet":
        return lenet_trainings.Trainings(
            arguments.seeds or 2,
            arguments.command,
            out=arguments.out,
            train=not arguments.redraw,
            processes=arguments.processes,
            data=arguments.data,
        )
    return cifar_trainings.Trainings(
        preset,
        arguments.seeds or (3 if name == "super-convergence" else 2),
        arguments.command,
        out=arguments.out,
        train=not arguments.redraw,
        resume=arguments.resume,
        data_dir=arguments.data,
        verbose=arguments.verbose,
    )


def make(task: str, preset: str, names: tuple[str, ...], arguments: Any) -> dict[str, str]:
    """Makes figures of a task, trainings included, and returns their tables by the names of their places."""
    place = "mnist-lenet" if task == "mnist-lenet" else preset
    made: dict[str, str] = {}
    for name in names:
        print(f"== {place}/{name}", flush=True)
        trainings = trainings_of(task, preset, name, arguments)
        try:
            made[f"{place}/{name}"] = FIGURES[task][name](trainings)
        except MissingRunError as error:
            if arguments.figure not in ("all", None):
                raise
            print(f"left out: {error}")
            continue
        made[f"{place}/machines"] = f"Trained on: {trainings.machines()}."
        print(f"\n{made[f'{place}/{name}']}\n", flush=True)
    return made


def make_full_size(arguments: argparse.Namespace) -> dict[str, str]:
    """Draws what is trained with all of CIFAR-10, and returns its table."""
    drawn = argparse.Namespace(**{**vars(arguments), "redraw": True})
    of_presets = [trainings_of("cifar-resnet", preset, "", drawn) for preset in OF_PRESETS]
    try:
        made = {"full-size": full_size(of_presets, arguments.out / "docs" / "super-convergence")}
    except MissingRunError as error:
        print(f"left out: {error}")
        return {}
    machines = {told for one in of_presets if (told := one.machines())}
    made["full-size/reference"] = beside_reference(arguments.out)
    return {**made, "full-size/machines": f"Trained on: {'; '.join(sorted(machines))}."}


def tables(arguments: argparse.Namespace) -> dict[str, str]:
    """Makes what the command line asks for, and returns the tables by the names of their places."""
    if arguments.figure is None:
        made = {}
        for task, preset, names in ON_PAGES:
            made |= make(task, preset, names, arguments)
    else:
        names = NAMES if arguments.figure == "all" else (arguments.figure,)
        made = make(arguments.task, arguments.preset, names, arguments)
    if arguments.figure is None or arguments.preset in OF_PRESETS:
        made |= make_full_size(arguments)
    return made


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add(
        "figure",
        nargs="?",
        choices=[*NAMES, "all"],
        metavar="FIGURE",
        help=", ".join([*NAMES, "all"]),
    )
    add("--task", choices=tuple(FIGURES), default="mnist-lenet")
    add(
        "--seeds",
        type=int,
        help="trainings of each kind (default: 2; super-convergence of a ResNet: 3)",
    )
    add("--redraw", action="store_true", help="train nothing, draw what is there")
    add(
        "--out",
        type=Path,
        default=ROOT,
        help="folder for evidence/results/ and docs/ (default: this clone)",
    )
    add("--data", type=Path, help="MNIST: mnist.npz; CIFAR-10: its folder; if not in TFDS_DATA_DIR")
    add("--processes", type=int, default=1, help="MNIST: trainings at a time")
    add(
        "--preset",
        choices=tuple(PRESETS),
        default="cpu",
        help="ResNet: how large the trainings are",
    )
    add("--resume", action="store_true", help="ResNet: go on with a training that was killed")
    add("--verbose", type=int, choices=(0, 1, 2), default=1, help="ResNet: as in fit")
    parsed = parser.parse_args(arguments)
    for name in ("seeds", "processes"):
        value = getattr(parsed, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1. Received: {value}")
    if (parsed.seeds or 1) > len(SEEDS):
        parser.error(f"--seeds must be at most 4. Received: {parsed.seeds}")
    if parsed.figure is None and not parsed.redraw:
        parser.error(f"name a FIGURE of {', '.join([*NAMES, 'all'])}, or give --redraw")
    given = list(sys.argv[1:] if arguments is None else arguments)
    again = [word for word in given if word not in ("--redraw", "--resume")]
    parsed.command = f"python -m evidence.reproduction {shlex.join(again)}"
    return parsed


def main(command_line: list[str] | None = None) -> int:
    """Makes what the command line asks for."""
    arguments = parse(command_line)
    try:
        fill(tables(arguments), arguments.out / "docs")
    except (ValueError, FileNotFoundError, ImportError) as error:
        if os.environ.get("DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nInterrupted. The same command goes on, of a ResNet with --resume.", file=sys.stderr
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
