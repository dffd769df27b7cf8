"""Trains a ResNet on CIFAR-10 with one cycle, at the learning rate that a range test suggests.

The same command with --resume goes on after Ctrl-C, a crash or a kill, where the cycle was. Without
TensorFlow (KERAS_BACKEND=jax or torch) it trains from arrays, augmented on the device. The parts:
settings.py, training.py, resume.py, precision.py and devices.py.
"""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # Pictures go to files.
import matplotlib.pyplot as plt

from examples.cifar10 import training
from examples.cifar10.devices import STRATEGIES, Devices, set_up
from examples.cifar10.resume import claim
from examples.cifar10.settings import INPUTS, PRECISIONS, Settings, read_json
from keras_onecycle import RangeTestResult


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n", maxsplit=1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("cifar10-results"), help="folder of this training")
    add("--resume", action="store_true", help="go on with the training in the folder")
    add("--data-dir", type=Path, help="where the data is, if not in TFDS_DATA_DIR")
    add("--dataset", choices=("cifar10", "cifar100"), default=defaults.dataset)
    add("--num-train", type=int, help="train on so many images, balanced by class")
    add("--depth", type=int, default=defaults.depth, help="6n + 2: 8, 20, 32, 44, 56, 110")
    add("--epochs", type=int, default=defaults.epochs, help="of the cycle")
    add("--batch-size", type=int, default=defaults.batch_size, help="of all devices together")
    add("--max-lr", type=float, help="highest learning rate; without it, a range test suggests one")
    add("--weight-decay", type=float, default=defaults.weight_decay, help="L2: gradient wd * w")
    add("--dropout", type=float, default=defaults.dropout, help="before the last layer")
    add(
        "--precision",
        choices=PRECISIONS,
        default=defaults.precision,
        help="of the layers; auto: what should be fastest on this machine",
    )
    add("--steps-per-execution", type=int, default=defaults.steps_per_execution)
    add("--backup-freq", type=int, default=1, help="epochs from one backup to the next")
    add("--seed", type=int, default=defaults.seed, help="of weights and data")
    add("--input", choices=INPUTS, default=defaults.input, help="auto: tf.data where it is")
    add("--verbose", type=int, choices=(0, 1, 2), default=1, help="as in fit: 2 is a line an epoch")
    add("--synchronized", action="store_true", help="batch normalization over all devices")
    add("--strategy", choices=STRATEGIES, default="none", help="several devices")
    add("--coordinator", metavar="HOST:PORT", help="of process 0, with several processes (JAX)")
    add("--num-processes", type=int, default=1)
    add("--process-id", type=int, default=0)
    parsed = parser.parse_args(arguments)
    for name in ("epochs", "batch_size", "steps_per_execution", "backup_freq", "num_processes"):
        if getattr(parsed, name) < 1:
            option = name.replace("_", "-")
            parser.error(f"--{option} must be at least 1. Received: {getattr(parsed, name)}")
    if parsed.max_lr is not None and not 0 < parsed.max_lr < float("inf"):
        parser.error(f"--max-lr must be above 0. Received: {parsed.max_lr}")
    if parsed.strategy == "mirrored" and parsed.steps_per_execution > 1:
        parser.error(
            "Keras 3 does not train under MirroredStrategy with --steps-per-execution above 1. "
            f"Received: --steps-per-execution {parsed.steps_per_execution}"
        )
    return parsed


def draw(out: Path, settings: Settings, steps: int) -> list[str]:
    """Draws the range test, the schedule and the course of the training, from the files alone."""
    names = []

    def save(figure: plt.Figure, name: str) -> None:
        figure.savefig(out / name, dpi=120)
        plt.close(figure)
        names.append(name)

    if (out / "range_test.json").exists():
        save(RangeTestResult.load(out / "range_test.json").plot(), "range_test.png")
    cycle = training.one_cycle(settings, settings.epochs * steps)
    save(cycle.plot(), "schedule.png")
    history = read_json(out / "results.json")["history"]
    plt.style.use("keras_onecycle.onecycle")
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    for ax, name in zip(axes, ("loss", "accuracy"), strict=True):
        marker = "o" if len(history) < 30 else None
        for key, label in ((name, "training"), (f"val_{name}", "test")):
            rows = [row for row in history if key in row]
            epochs, values = [row["epoch"] + 1 for row in rows], [row[key] for row in rows]
            ax.plot(epochs, values, marker=marker, markersize=3, label=label)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_ylabel(name)
        ax.legend()
    save(figure, "training.png")
    return names


def train(parsed: argparse.Namespace, devices: Devices) -> None:
    """Trains as the command line says, and tells what came out and where it is."""
    names = {field.name for field in fields(Settings)}
    settings = Settings(**{k: v for k, v in vars(parsed).items() if k in names})
    tensorboard = training.has_tensorboard()
    if not tensorboard:
        print("No logs for TensorBoard: that needs `pip install tensorflow tensorboard`.")
    results = training.run(
        settings,
        parsed.out,
        devices,
        data_dir=parsed.data_dir,
        verbose=parsed.verbose,
        backup_freq=parsed.backup_freq,
        tensorboard=tensorboard,
        save_model=True,
    )
    if not results:  # Not the process that writes.
        return
    used = Settings(**results["settings"])
    pictures = draw(parsed.out, used, results["updates"] // used.epochs)
    print(
        f"\nResNet-{used.depth}, {used.epochs} epoch(s), {results['updates']} updates, "
        f"max_lr={used.max_lr:.3g}: test accuracy {100 * results['test_accuracy']:.2f}%, "
        f"{results['images_per_second']:.0f} images/s with evaluation. Written:"
    )
    for name in ("results.json", "log.csv", "model.weights.h5", *pictures):
        print(f"   {parsed.out / name}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the example."""
    parsed = parse(arguments)
    try:
        # Before the processes wait for each other: nothing is written until all are past this.
        claim(parsed.out, resume=parsed.resume)
        devices = set_up(
            parsed.strategy, parsed.coordinator, parsed.num_processes, parsed.process_id
        )
        train(parsed, devices)
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
