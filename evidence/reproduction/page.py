"""The page docs/super-convergence.md, from the numbers of the figures and texts.toml."""

import tomllib
from pathlib import Path
from typing import Any

from evidence.reproduction.cifar_resnet import lab as cifar_lab
from evidence.reproduction.cifar_resnet.lab import PRESETS, accuracies
from evidence.reproduction.drawing import spread, table
from evidence.reproduction.mnist_lenet import lab as lenet_lab
from evidence.reproduction.mnist_lenet.figures import FIGURES
from evidence.reproduction.stored import MissingRunError
from examples.cifar10.settings import read_json

NAMES = tuple(FIGURES)
TEXTS = Path(__file__).with_name("texts.toml")


def markdown(made: dict[str, dict[str, str]], out: Path) -> str:
    """Returns the page.

    Args:
        made: By part (`"mnist-lenet"`, `"full"`, `"cifar-resnet"`), the numbers of each figure that is made.
        out: Path of the folder that has the results.
    """
    texts = tomllib.loads(TEXTS.read_text(encoding="utf-8"))
    parts = [
        *first_screen(texts),
        *lenet(made["mnist-lenet"], texts["mnist-lenet"], out),
        *resnet_8(made["full"], texts["resnet-8"], out),
        *resnet_56(texts["resnet-56"], out),
        *small_cifar(made["cifar-resnet"], texts["cifar-resnet"], out),
    ]
    return "\n\n".join(parts) + "\n"


def first_screen(texts: dict[str, Any]) -> list[str]:
    """Returns the result, and what agrees with the papers."""
    small, large = texts["cifar-resnet"], texts["mnist-lenet"]
    verdicts = [
        [small[name]["claim"], large[name]["verdict"], small[name]["verdict"]] for name in NAMES
    ]
    header = ["published", "LeNet on MNIST", "ResNet-8 on 10,000 images, 10 epochs"]
    return [
        "<!-- Written by `python -m evidence.reproduction all`, from evidence/reproduction/texts.toml. -->",
        "# Super-convergence, reproduced",
        _paragraphs(texts["result"]["sentence"]),
        "![Test accuracy of LeNet against epochs](super-convergence/mnist-lenet/super-convergence.png)",
        texts["result"]["table"].strip(),
        _paragraphs(texts["result"]["why"]),
        "## What agrees with the papers",
        table(header, verdicts),
    ]


def lenet(made: dict[str, str], texts: dict[str, Any], out: Path) -> list[str]:
    """Returns the part about LeNet on MNIST."""
    parts = [
        "## LeNet on MNIST",
        _paragraphs(texts["setting"]),
        "`python -m evidence.reproduction all --seeds 4` makes all of it. It takes about two days of a "
        "core, and goes on where it was; `--redraw` draws what is there. The seeds of one row may come from "
        "different machines: "
        f"{'; '.join(lenet_lab.Lab(out=out).environments()) or 'nothing yet'}.",
    ]
    for number, name in enumerate(NAMES, start=1):
        # The first picture stands at the top.
        picture = None if number == 1 else f"super-convergence/mnist-lenet/{name}.png"
        command = f"{name}{' --seeds 4' * (number == 1)}"
        parts += figure(f"{number}. {texts[name]['title']}", command, picture, made.get(name))
        if name in made:
            parts += _texts(texts[name]["published"], texts[name]["here"])
    return parts


def resnet_8(made: dict[str, str], texts: dict[str, str], out: Path) -> list[str]:
    """Returns the part about ResNet-8 on all of CIFAR-10."""
    title, picture = "ResNet-8 on all of CIFAR-10", "super-convergence/full/super-convergence.png"
    command = "super-convergence --task cifar-resnet --preset full --seeds 2"
    parts = figure(title, command, picture, made.get("super-convergence"), level=2)
    if made:
        parts += _texts(texts["published"], texts["here"])
        parts.append(f"Trained on: {trained_on('full', out)}.")
    return parts


def resnet_56(text: dict[str, str], out: Path) -> list[str]:
    """Returns the part about ResNet-56 on a GPU, from what is trained of the accelerator preset."""
    published = {50: "92.31", 70: "93.08"}
    lab = cifar_lab.Lab("accelerator", 1, "", out=out, train=False)
    rows = []
    for epochs in lab.preset.cycle_epochs:
        try:
            runs = lab.runs(max_lr=lab.preset.rates["one_cycle"], epochs=epochs)
        except MissingRunError:
            continue
        rows.append([epochs, published.get(epochs, ""), spread(accuracies(runs))])
    command = "super-convergence --task cifar-resnet --preset accelerator --seeds 1"
    return [
        "## ResNet-56 on CIFAR-10, on a GPU",
        table(["epochs", "published, %", "here, %"], rows),
        *(_texts(text["published"], text["here"]) if rows else ["Not run yet."]),
        f"```\npython -m evidence.reproduction {command}\n```",
        f"Trained on: {trained_on('accelerator', out)}.",
    ]


def small_cifar(made: dict[str, str], texts: dict[str, Any], out: Path) -> list[str]:
    """Returns the part about CIFAR-10 at small size."""
    base = PRESETS["cpu"].base
    parts = [
        "## CIFAR-10 at small size",
        f"Preset `cpu`: ResNet-{base.depth}, {base.num_train or 50_000:,} training images of "
        f"CIFAR-10, one cycle of {base.epochs} epochs at batch size {base.batch_size}. Test accuracy is "
        "that after the last update, on all 10,000 test images. Nothing is stopped early and no best "
        "epoch is picked. ± is the standard deviation over seeds. None of these trainings has converged. "
        f"Trained on: {trained_on('cpu', out)}.",
        "`python -m evidence.reproduction all --task cifar-resnet` makes everything below, and goes on "
        "where it was with `--resume`.",
    ]
    for number, name in enumerate(NAMES, start=1):
        picture = f"super-convergence/cpu/{name}.png"
        command = f"{name} --task cifar-resnet --preset cpu"
        parts += figure(f"C{number}. {texts[name]['title']}", command, picture, made.get(name))
        if name in made:
            parts += _texts(texts[name]["published"], texts[name]["here"])
    return parts


def figure(
    title: str, command: str, picture: str | None, numbers: str | None, level: int = 3
) -> list[str]:
    """Returns the head of a figure: its title, command, picture and numbers."""
    shown = [f"![{title}]({picture})"] if picture and numbers is not None else []
    head = f"{'#' * level} {title}"
    return [
        head,
        f"```\npython -m evidence.reproduction {command}\n```",
        *shown,
        numbers or "Not run yet.",
    ]


def trained_on(preset: str, out: Path) -> str:
    """Returns what the trainings of a preset were made with."""
    paths = (out / "evidence" / "results" / "super-convergence" / preset).glob("*/results.json")
    return "; ".join(sorted({_environment(read_json(path)) for path in paths})) or "nothing yet"


def _texts(published: str, here: str) -> list[str]:
    said = {"Published": published, "Here": here}
    return [f"**{name}.** {_paragraphs(text)}" for name, text in said.items() if text]


def _environment(results: dict[str, Any]) -> str:
    e = results["environment"]
    cores = "1 core" if e["cores"] == 1 else f"{e['cores']} cores"
    told = [f"{e['backend']} {e[e['backend']]}", f"Keras {e['keras']}", cores, *e["devices"]]
    told.append(results["settings"]["precision"])
    if "batch_normalization" in e:  # Of trainings that had another than Keras's.
        told.append(f"batch normalization by `{e['batch_normalization']}`")
    return ", ".join(told)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))
