"""Reproduces the figures that super-convergence is known by, one command each.

usage: python reproduction/reproduce.py FIGURE [--preset cpu|accelerator] [--seeds N] [--resume]

FIGURE is one of super-convergence, range-test, large-lr-regularizes, schedule, batch-size, momentum,
weight-decay, limited-data, architectures; `all` makes them all and writes docs/super-convergence.md.
What that page says of them is in texts.toml. A training that is done is not done again, whichever
figure asks for it; one that was killed goes on with --resume. With --redraw nothing is trained, and
pictures come from the files that are there.
"""

import argparse
import os
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import mnist_lenet
from cifar10_example import ROOT, read_json
from figures import FIGURES, SEEDS
from lab import PRESETS, Lab, MissingRunError

TEXTS = Path(__file__).with_name("texts.toml")


def make(name: str, arguments: argparse.Namespace) -> str:
    """Makes a figure, trainings included, and returns its numbers in Markdown."""
    lab = Lab(
        arguments.preset,
        arguments.seeds or SEEDS.get(name, 1),
        arguments.command,
        out=arguments.out,
        train=not arguments.redraw,
        resume=arguments.resume,
        data_dir=arguments.data_dir,
        verbose=arguments.verbose,
    )
    return FIGURES[name](lab)


def page(made: dict[str, str], out: Path, preset: str) -> str:
    """Returns the page: each figure with its command, picture, numbers and texts."""
    base = PRESETS[preset].base
    trained_on = set()
    for path in (out / "results" / "super-convergence" / preset).glob("*/results.json"):
        trained_on.add(_environment(read_json(path)))
    texts = tomllib.loads(TEXTS.read_text(encoding="utf-8"))
    parts = [
        "<!-- Written by `python reproduction/reproduce.py all`. Edit reproduction/texts.toml instead. -->",
        "# Super-convergence, reproduced",
        *lenet(texts["mnist-lenet"]),
        *resnet_56(texts["resnet-56"]),
        "## CIFAR-10 at small size",
        f"Preset `{preset}`: ResNet-{base.depth}, {base.num_train or 50_000:,} training images of "
        f"CIFAR-10, one cycle of {base.epochs} epochs at batch size {base.batch_size}. Test accuracy is "
        "that after the last update, on all 10,000 test images. Nothing is stopped early and no best "
        "epoch is picked. ± is the standard deviation over seeds. Trained on: "
        f"{'; '.join(sorted(trained_on)) or 'nothing yet'}.",
        "`python reproduction/reproduce.py all` makes everything below, and goes on where it was with "
        "`--resume`. With `--redraw` it makes the pictures and this page again from "
        f"`results/super-convergence/{preset}`.",
    ]
    for number, name in enumerate(FIGURES, start=1):
        text = texts[name]
        parts += [
            f"### {number}. {text['title']}",
            f"```\npython reproduction/reproduce.py {name} --preset {preset}\n```",
        ]
        if name in made:
            parts += [f"![{text['title']}](super-convergence/{preset}/{name}.png)", made[name]]
        else:
            parts.append("Not run yet.")
        parts.append(f"**Published.** {_one_line(text['published'])}")
        if preset in text.get("here", {}):
            parts.append(f"**Here.** {_one_line(text['here'][preset])}")
    return "\n\n".join(parts) + "\n"


def lenet(text: dict[str, str]) -> list[str]:
    """Returns the part about LeNet on MNIST, from its results and texts."""
    return [
        _one_line(text["result"]),
        "![Test accuracy of LeNet against epochs](super-convergence/mnist-lenet.png)",
        mnist_lenet.table(),
        f"**Published.** {_one_line(text['published'])}",
        f"**Here.** {_one_line(text['here'])}",
        "```\npython reproduction/mnist_lenet.py train  # goes on where it was; 40 s an epoch on a core\n"
        "python reproduction/mnist_lenet.py table\npython reproduction/mnist_lenet.py draw\n```",
        f"Trained on: {'; '.join(mnist_lenet.environments())}. Accuracy is that after the last update, on "
        "the 10,000 test images; ± is the standard deviation over seeds.",
        "### The same with equal tuning",
        _one_line(text["tuned"]),
        mnist_lenet.tuned_table(),
        "### Cyclical and constant momentum",
        _one_line(text["momentum"]),
        mnist_lenet.momentum_table(),
    ]


def resnet_56(text: dict[str, str]) -> list[str]:
    """Returns the part about ResNet-56 on a GPU, from what is trained of the accelerator preset."""
    published = {50: "92.31", 70: "93.08"}
    rows = ["| epochs | published, % | here, % | seeds |", "| --- | --- | --- | --- |"]
    trained_on = set()
    for epochs in PRESETS["accelerator"].cycle_epochs:
        found = (ROOT / "results" / "super-convergence" / "accelerator").glob(
            "one_cycle*/results.json"
        )
        runs = [run for run in map(read_json, found) if run["settings"]["epochs"] == epochs]
        trained_on |= {_environment(run) for run in runs}
        accuracy = ", ".join(f"{100 * run['test_accuracy']:.2f}" for run in runs)
        rows.append(f"| {epochs} | {published.get(epochs, '')} | {accuracy} | {len(runs)} |")
    return [
        "## ResNet-56 on CIFAR-10, on a GPU",
        "\n".join(rows),
        f"**Published.** {_one_line(text['published'])}",
        f"**Here.** {_one_line(text['here'])}",
        "```\npython reproduction/reproduce.py super-convergence --preset accelerator --seeds 1\n```",
        f"Trained on: {'; '.join(sorted(trained_on))}.",
    ]


def _environment(results: dict[str, Any]) -> str:
    e = results["environment"]
    return (
        f"{e['backend']} {e[e['backend']]}, Keras {e['keras']}, {e['cores']} cores, "
        f"{', '.join(e['devices'])}, {results['settings']['precision']}"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("figure", choices=[*FIGURES, "all"], metavar="FIGURE", help=", ".join([*FIGURES, "all"]))
    add("--preset", choices=tuple(PRESETS), default="cpu")
    add("--seeds", type=int, help="trainings of each kind (default: 3 for figure 1, else 1)")
    add("--resume", action="store_true", help="go on with a training that was killed")
    add("--redraw", action="store_true", help="train nothing, draw what is there")
    add(
        "--out", type=Path, default=ROOT, help="folder for results/ and docs/ (default: this clone)"
    )
    add("--data-dir", type=Path, help="where the data is, if not in TFDS_DATA_DIR")
    add("--verbose", type=int, choices=(0, 1, 2), default=1, help="as in fit: 2 is a line an epoch")
    parsed = parser.parse_args(arguments)
    if parsed.seeds is not None and parsed.seeds < 1:
        parser.error(f"--seeds must be at least 1. Received: {parsed.seeds}")
    given = list(sys.argv[1:] if arguments is None else arguments)
    again = [word for word in given if word not in ("--redraw", "--resume")]
    parsed.command = f"python reproduction/reproduce.py {shlex.join(again)}"
    return parsed


def main(command_line: list[str] | None = None) -> int:
    """Makes what the command line asks for."""
    arguments = parse(command_line)
    wanted = list(FIGURES) if arguments.figure == "all" else [arguments.figure]
    made: dict[str, str] = {}
    try:
        for name in wanted:
            print(f"== {name}", flush=True)
            try:
                made[name] = make(name, arguments)
            except MissingRunError as error:
                if arguments.figure != "all":
                    raise
                print(f"left out: {error}")
                continue
            print(f"\n{made[name]}\n", flush=True)
        if arguments.figure == "all":
            other = "" if arguments.preset == "cpu" else f"-{arguments.preset}"
            path = arguments.out / "docs" / f"super-convergence{other}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = page(made, arguments.out, arguments.preset)
            path.write_text(text, encoding="utf-8")
            print(f"Written: {path}")
    except (ValueError, FileNotFoundError, ImportError) as error:
        if os.environ.get("DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. The same command with --resume goes on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
