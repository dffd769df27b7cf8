"""Reproduces the figures that super-convergence is known by, one command each.

usage: python reproduction/reproduce.py FIGURE [--task mnist-lenet|cifar-resnet] [--seeds N] [--redraw]

FIGURE is one of super-convergence, range-test, large-lr-regularizes, schedule, batch-size, momentum,
weight-decay, limited-data, architectures; `all` makes all of a task and writes docs/super-convergence.md.
What that page says of them is in texts.toml. A training that is done is not done again, whichever
figure asks for it. With --redraw nothing is trained, and pictures come from the files that are there.
"""

import argparse
import os
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import cifar_resnet.figures
import cifar_resnet.lab
import mnist_lenet.figures
import mnist_lenet.lab
from cifar_resnet.example import ROOT, read_json

TEXTS = Path(__file__).with_name("texts.toml")
FIGURES = {
    "mnist-lenet": mnist_lenet.figures.FIGURES,
    "cifar-resnet": cifar_resnet.figures.FIGURES,
}
NAMES = tuple(mnist_lenet.figures.FIGURES)
PRESETS = cifar_resnet.lab.PRESETS
MISSING = (cifar_resnet.lab.MissingRunError, mnist_lenet.lab.MissingRunError)


def laboratory(name: str, arguments: argparse.Namespace) -> Any:
    """Returns the lab of a task, for a figure."""
    if arguments.task == "mnist-lenet":
        return mnist_lenet.lab.Lab(
            arguments.seeds or 2,
            arguments.command,
            out=arguments.out,
            train=not arguments.redraw,
            processes=arguments.processes,
            data=arguments.data,
        )
    return cifar_resnet.lab.Lab(
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
    for name in NAMES if arguments.figure == "all" else [arguments.figure]:
        print(f"== {name}", flush=True)
        try:
            made[name] = FIGURES[arguments.task][name](laboratory(name, arguments))
        except MISSING as error:
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
    except MISSING:
        return {}


def page(made: dict[str, dict[str, str]], out: Path, preset: str) -> str:
    """Returns the page: the result, what agrees, and each figure with command, picture, numbers and texts."""
    texts = tomllib.loads(TEXTS.read_text(encoding="utf-8"))
    lenet, resnet = texts["mnist-lenet"], texts["cifar-resnet"]
    parts = [
        "<!-- Written by `python reproduction/reproduce.py all`. Edit reproduction/texts.toml instead. -->",
        "# Super-convergence, reproduced",
        _one_line(lenet["result"]),
        "![Test accuracy of LeNet against epochs](super-convergence/mnist-lenet/super-convergence.png)",
        _one_line(lenet["why"]),
        "## What agrees with the papers",
        "\n".join(
            [
                "| published | LeNet on MNIST, converged | ResNet-8 on 10,000 images, 10 epochs |",
                "| --- | --- | --- |",
                *(
                    f"| {resnet[name]['claim']} | {lenet[name]['verdict']} | {resnet[name]['verdict']} |"
                    for name in NAMES
                ),
            ]
        ),
        "## LeNet on MNIST",
        _one_line(lenet["setting"]),
        "`python reproduction/reproduce.py all` trains all of it in an estimated two days of a core, and "
        "goes on where it was. With `--redraw` it draws what is there. Trained on: "
        f"{'; '.join(mnist_lenet.lab.Lab(out=out).environments()) or 'nothing yet'}.",
    ]
    for number, name in enumerate(NAMES, start=1):
        picture = f"super-convergence/mnist-lenet/{name}.png"
        command = f"python reproduction/reproduce.py {name}{' --seeds 4' * (number == 1)}"
        numbers = made["mnist-lenet"].get(name)
        # The first picture stands at the top.
        shown = None if number == 1 else picture
        parts += figure(f"{number}. {lenet[name]['title']}", command, shown, numbers)
        if name in made["mnist-lenet"]:
            parts += _texts(lenet[name]["published"], lenet[name]["here"])
    title, picture = "ResNet-8 on all of CIFAR-10", "super-convergence/full/super-convergence.png"
    command = "super-convergence --task cifar-resnet --preset full --seeds 2"
    numbers = made["full"].get("super-convergence")
    parts += figure(title, f"python reproduction/reproduce.py {command}", picture, numbers, level=2)
    if numbers is not None:
        parts += _texts(texts["resnet-8"]["published"], texts["resnet-8"]["here"])
        parts += [f"Trained on: {trained_on('full', out)}."]
    parts += resnet_56(texts["resnet-56"], out)
    parts += small_cifar(preset, out)
    for number, name in enumerate(NAMES, start=1):
        picture = f"super-convergence/{preset}/{name}.png"
        command = f"python reproduction/reproduce.py {name} --task cifar-resnet --preset {preset}"
        numbers = made["cifar-resnet"].get(name)
        parts += figure(f"C{number}. {resnet[name]['title']}", command, picture, numbers)
        if numbers is not None:
            parts += _texts(resnet[name]["published"], resnet[name]["here"].get(preset, ""))
    return "\n\n".join(parts) + "\n"


def figure(
    title: str, command: str, picture: str | None, numbers: str | None, level: int = 3
) -> list[str]:
    """Returns the head of a figure: its title, command, picture and numbers."""
    shown = [f"![{title}]({picture})"] if picture and numbers is not None else []
    head = f"{'#' * level} {title}"
    return [head, f"```\n{command}\n```", *shown, numbers or "Not run yet."]


def trained_on(preset: str, out: Path) -> str:
    """Returns what the trainings of a preset were made with."""
    paths = (out / "results" / "super-convergence" / preset).glob("*/results.json")
    return "; ".join(sorted({_environment(read_json(path)) for path in paths})) or "nothing yet"


def small_cifar(preset: str, out: Path) -> list[str]:
    """Returns the head of the part about CIFAR-10 at small size."""
    base = PRESETS[preset].base
    return [
        "## CIFAR-10 at small size",
        f"Preset `{preset}`: ResNet-{base.depth}, {base.num_train or 50_000:,} training images of "
        f"CIFAR-10, one cycle of {base.epochs} epochs at batch size {base.batch_size}. Test accuracy is "
        "that after the last update, on all 10,000 test images. Nothing is stopped early and no best "
        "epoch is picked. ± is the standard deviation over seeds. None of these trainings has converged. "
        f"Trained on: {trained_on(preset, out)}.",
        "`python reproduction/reproduce.py all --task cifar-resnet` makes everything below, and goes on "
        "where it was with `--resume`.",
    ]


def resnet_56(text: dict[str, str], out: Path) -> list[str]:
    """Returns the part about ResNet-56 on a GPU, from what is trained of the accelerator preset."""
    published = {50: "92.31", 70: "93.08"}
    rows = ["| epochs | published, % | here, % | seeds |", "| --- | --- | --- | --- |"]
    for epochs in PRESETS["accelerator"].cycle_epochs:
        found = (out / "results" / "super-convergence" / "accelerator").glob(
            "one_cycle*/results.json"
        )
        runs = [run for run in map(read_json, found) if run["settings"]["epochs"] == epochs]
        accuracy = ", ".join(f"{100 * run['test_accuracy']:.2f}" for run in runs)
        rows.append(f"| {epochs} | {published.get(epochs, '')} | {accuracy} | {len(runs)} |")
    command = "super-convergence --task cifar-resnet --preset accelerator --seeds 1"
    return [
        "## ResNet-56 on CIFAR-10, on a GPU",
        "\n".join(rows),
        *_texts(text["published"], text["here"]),
        f"```\npython reproduction/reproduce.py {command}\n```",
        f"Trained on: {trained_on('accelerator', out)}.",
    ]


def _texts(published: str, here: str) -> list[str]:
    said = {"Published": published, "Here": here}
    return [f"**{name}.** {_one_line(text)}" for name, text in said.items() if text]


def _environment(results: dict[str, Any]) -> str:
    e = results["environment"]
    cores = "1 core" if e["cores"] == 1 else f"{e['cores']} cores"
    told = [f"{e['backend']} {e[e['backend']]}", f"Keras {e['keras']}", cores, *e["devices"]]
    told.append(results["settings"]["precision"])
    if "batch_normalization" in e:  # Of trainings that had another than Keras's.
        told.append(f"batch normalization by `{e['batch_normalization']}`")
    return ", ".join(told)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("figure", choices=[*NAMES, "all"], metavar="FIGURE", help=", ".join([*NAMES, "all"]))
    add("--task", choices=tuple(FIGURES), default="mnist-lenet")
    add(
        "--seeds",
        type=int,
        help="trainings of each kind (default: 2; super-convergence of a ResNet: 3)",
    )
    add("--redraw", action="store_true", help="train nothing, draw what is there")
    add(
        "--out", type=Path, default=ROOT, help="folder for results/ and docs/ (default: this clone)"
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
    if (parsed.seeds or 1) > len(mnist_lenet.lab.SEEDS):
        parser.error(f"--seeds must be at most 4. Received: {parsed.seeds}")
    given = list(sys.argv[1:] if arguments is None else arguments)
    again = [word for word in given if word not in ("--redraw", "--resume")]
    parsed.command = f"python reproduction/reproduce.py {shlex.join(again)}"
    if parsed.preset == "full" and parsed.figure != "super-convergence":
        parser.error(f"--preset full is for super-convergence alone. Received: {parsed.figure}")
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
            drawn["command"] = f"python reproduction/reproduce.py all --task {other}"
            made[other] = make(argparse.Namespace(**drawn))
            made["full"] = full(arguments)
            kind = "" if arguments.preset == "cpu" else f"-{arguments.preset}"
            path = arguments.out / "docs" / f"super-convergence{kind}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page(made, arguments.out, arguments.preset), encoding="utf-8")
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
