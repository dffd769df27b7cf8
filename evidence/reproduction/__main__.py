"""Reproduces the figures that super-convergence is known by, one command each.

usage: python -m evidence.reproduction FIGURE [--task mnist-lenet|cifar-resnet] [--seeds N] [--redraw]

FIGURE is one of super-convergence, range-test, large-lr-regularizes, schedule, batch-size, momentum,
weight-decay, limited-data, architectures; `all` makes all of a task and writes docs/super-convergence.md.
What that page says of them is in texts.toml. A training that is done is not done again, whichever
figure asks for it. With --redraw nothing is trained, and pictures come from the files that are there.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from evidence.reproduction import page
from evidence.reproduction.cifar_resnet import figures as cifar_figures
from evidence.reproduction.cifar_resnet import lab as cifar_lab
from evidence.reproduction.mnist_lenet import figures as lenet_figures
from evidence.reproduction.mnist_lenet import lab as lenet_lab
from evidence.reproduction.stored import ROOT, SEEDS, MissingRunError

FIGURES = {
    "mnist-lenet": lenet_figures.FIGURES,
    "cifar-resnet": cifar_figures.FIGURES,
}
PRESETS = cifar_lab.PRESETS


def laboratory(name: str, arguments: argparse.Namespace) -> Any:
    """Returns the lab of a task, for a figure."""
    if arguments.task == "mnist-lenet":
        return lenet_lab.Lab(
            arguments.seeds or 2,
            arguments.command,
            out=arguments.out,
            train=not arguments.redraw,
            processes=arguments.processes,
            data=arguments.data,
        )
    return cifar_lab.Lab(
        arguments.preset,
        arguments.seeds or (3 if name == "super-convergence" else 2),
        arguments.command,
        out=arguments.out,
        train=not arguments.redraw,
        resume=arguments.resume,
        data_dir=arguments.data,
        verbose=arguments.verbose,
    )


def make(arguments: argparse.Namespace) -> dict[str, str]:
    """Makes the figures of a task, trainings included, and returns the numbers of each in Markdown."""
    made: dict[str, str] = {}
    for name in page.NAMES if arguments.figure == "all" else [arguments.figure]:
        print(f"== {name}", flush=True)
        try:
            made[name] = FIGURES[arguments.task][name](laboratory(name, arguments))
        except MissingRunError as error:
            if arguments.figure != "all":
                raise
            print(f"left out: {error}")
            continue
        print(f"\n{made[name]}\n", flush=True)
    return made


def full(arguments: argparse.Namespace) -> dict[str, str]:
    """Returns the numbers of figure 1 with ResNet-8 on all of CIFAR-10, where they are there."""
    changes = {"task": "cifar-resnet", "preset": "full", "figure": "super-convergence"}
    try:
        return make(argparse.Namespace(**{**vars(arguments), **changes, "redraw": True}))
    except MissingRunError:
        return {}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add(
        "figure",
        choices=[*page.NAMES, "all"],
        metavar="FIGURE",
        help=", ".join([*page.NAMES, "all"]),
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
    given = list(sys.argv[1:] if arguments is None else arguments)
    again = [word for word in given if word not in ("--redraw", "--resume")]
    parsed.command = f"python -m evidence.reproduction {shlex.join(again)}"
    if parsed.figure == "all" and parsed.preset != "cpu":
        parser.error(f"--preset {parsed.preset} has no page; name a figure. Received: all")
    return parsed


def main(command_line: list[str] | None = None) -> int:
    """Makes what the command line asks for."""
    arguments = parse(command_line)
    try:
        made = {arguments.task: make(arguments)}
        if arguments.figure == "all":
            # Of the other task, what is there.
            (other,) = FIGURES.keys() - {arguments.task}
            drawn = {**vars(arguments), "task": other, "redraw": True, "seeds": None, "data": None}
            drawn["command"] = f"python -m evidence.reproduction all --task {other}"
            made[other] = make(argparse.Namespace(**drawn))
            made["full"] = full(arguments)
            path = arguments.out / "docs" / "super-convergence.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page.markdown(made, arguments.out), encoding="utf-8")
            print(f"Written: {path}")
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
