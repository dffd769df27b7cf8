"""Reproduces the figures that super-convergence is known by, one command each.

usage: python examples/reproduce.py FIGURE [--preset cpu|accelerator] [--seeds N] [--resume]

FIGURE is one of super-convergence, range-test, large-lr-regularizes, schedule, batch-size, momentum,
weight-decay, limited-data, architectures; `all` runs them all and writes super-convergence.md. A
training that is done is not done again, whichever figure asks for it; one that was killed goes on with
--resume. With --redraw nothing is trained, and pictures come from the files that are there.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

import training
from figures import FIGURES
from lab import PRESETS, Lab, MissingRunError

DOCS = Path(__file__).resolve().parent.parent / "docs"


def make(name: str, arguments: argparse.Namespace) -> str:
    """Makes a figure, trainings included, and returns what the document says of it."""
    figure = FIGURES[name]
    lab = Lab(
        PRESETS[arguments.preset],
        arguments.out / "super-convergence" / arguments.preset,
        arguments.seeds or figure.seeds,
        arguments.command,
        train=not arguments.redraw,
        resume=arguments.resume,
        data_dir=arguments.data_dir,
        verbose=arguments.verbose,
    )
    return figure.make(lab)


def document(texts: dict[str, str], arguments: argparse.Namespace) -> str:
    """Returns the document: each figure with its command, picture, numbers and remark."""
    folder = arguments.out / "super-convergence" / arguments.preset
    base = PRESETS[arguments.preset].base
    images = base.num_train or 50_000
    remarks_path = folder / "remarks.json"
    remarks = training.read_json(remarks_path) if remarks_path.exists() else {}
    machines = sorted(
        {
            f"{e['backend']} {e[e['backend']]}, Keras {e['keras']}, {e['cores']} cores, "
            f"{', '.join(e['devices'])}"
            for path in folder.glob("runs/*/results.json")
            for e in [training.read_json(path)["environment"]]
        }
    )
    parts = [
        "# Super-convergence, reproduced\n\n"
        f"Preset `{arguments.preset}`: ResNet-{base.depth}, {images:,} training images of CIFAR-10, one "
        f"cycle of {base.epochs} epochs at batch size {base.batch_size}, {base.precision}. Test accuracy "
        "is that after the last update, on all 10,000 test images; nothing is stopped early and no best "
        "epoch is picked. ± is the standard deviation over seeds. Trained on: "
        f"{'; '.join(machines) or 'nothing yet'}.\n\n"
        "`python examples/reproduce.py all` makes everything below, and goes on where it was with "
        "`--resume`; `--redraw` makes the pictures and this page again from the results in "
        f"`super-convergence/{arguments.preset}/runs`."
    ]
    for number, (name, figure) in enumerate(FIGURES.items(), start=1):
        part = (
            f"## {number}. {figure.title}\n\n"
            f"```\npython examples/reproduce.py {name} --preset {arguments.preset}\n```\n\n"
        )
        if name in texts:
            picture = f"super-convergence/{arguments.preset}/{name}.png"
            part += f"![{figure.title}]({picture})\n\n{texts[name]}\n\n"
        else:
            part += "Not run yet.\n\n"
        part += f"**Published.** {figure.published}"
        if name in remarks:
            part += f"\n\n**Here.** {remarks[name]}"
        parts.append(part)
    return "\n\n".join(parts) + "\n"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("figure", choices=[*FIGURES, "all"], metavar="FIGURE", help=", ".join([*FIGURES, "all"]))
    add("--preset", choices=tuple(PRESETS), default="cpu")
    add("--seeds", type=int, help="trainings of each kind (default: 3 for figure 1, else 1)")
    add("--resume", action="store_true", help="go on with a training that was killed")
    add("--redraw", action="store_true", help="train nothing, draw what is there")
    add("--out", type=Path, default=DOCS, help="where results, pictures and the document go")
    add("--data-dir", type=Path, help="where the data is, if not in TFDS_DATA_DIR")
    add("--verbose", type=int, choices=(0, 1, 2), default=1, help="as in fit: 2 is a line an epoch")
    parsed = parser.parse_args(arguments)
    if parsed.seeds is not None and parsed.seeds < 1:
        parser.error(f"--seeds must be at least 1. Received: {parsed.seeds}")
    given = list(sys.argv[1:] if arguments is None else arguments)
    again = [word for word in given if word not in ("--redraw", "--resume")]
    parsed.command = f"python examples/reproduce.py {shlex.join(again)}"
    return parsed


def main(command_line: list[str] | None = None) -> int:
    """Makes what the command line asks for."""
    arguments = parse(command_line)
    wanted = list(FIGURES) if arguments.figure == "all" else [arguments.figure]
    texts: dict[str, str] = {}
    try:
        for name in wanted:
            print(f"== {name}", flush=True)
            try:
                texts[name] = make(name, arguments)
            except MissingRunError as error:
                if arguments.figure != "all":
                    raise
                print(f"left out: {error}")
                continue
            print(f"\n{texts[name]}\n", flush=True)
        if arguments.figure == "all":
            other = "" if arguments.preset == "cpu" else f"-{arguments.preset}"
            path = arguments.out / f"super-convergence{other}.md"
            path.write_text(document(texts, arguments), encoding="utf-8")
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
