"""The same trainings in plain PyTorch: a reference that shares nothing with the package or the example.

usage: python evidence/reproduction/cifar_resnet/pytorch_reference.py CIFAR10.npz OUT.json [--epochs 30] ...

Needs PyTorch and NumPy alone. The file holds x_train, y_train, x_test and y_test, like those that the
example reads. As fastai did in 2018: PyTorch's initial weights, padding by reflection, weight decay on all
parameters; each can be had as in the example. Goes on from its checkpoint after a stop.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

MEAN, STD = [125.3, 123.0, 113.9], [63.0, 62.1, 66.7]


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.b1 = nn.BatchNorm2d(outputs)
        self.c2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.b2 = nn.BatchNorm2d(outputs)
        self.stride, self.missing = stride, outputs - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns what the next block gets."""
        y = self.b2(self.c2(functional.relu(self.b1(self.c1(x)))))
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.missing))
        return functional.relu(y + x)


def resnet(depth: int) -> nn.Sequential:
    """Returns He et al.'s network for CIFAR."""
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for stage, outputs in enumerate((16, 32, 64)):
        for number in range((depth - 2) // 6):
            layers.append(Block(inputs, outputs, 2 if stage and not number else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def parse() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", type=Path)
    add("out", type=Path)
    add("--depth", type=int, default=20)
    add("--epochs", type=int, default=30)
    add("--batch-size", type=int, default=512)
    add("--policy", choices=("one_cycle", "piecewise", "cosine"), default="one_cycle")
    add("--max-lr", type=float, default=3.0)
    add("--div-factor", type=float, default=20.0)
    add("--final-div-factor", type=float, default=100.0)
    add("--momentum", type=float, nargs=2, default=(0.85, 0.95), help="of one cycle")
    add("--weight-decay", type=float, default=1e-4)
    add("--decay-kernels-only", action="store_true")
    add("--init", choices=("pytorch", "he"), default="pytorch")
    add("--padding", choices=("reflect", "zero"), default="reflect")
    add("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1)
    return parser.parse_args()


def build(arguments: argparse.Namespace) -> nn.Module:
    """Returns the network with its initial weights."""
    model = resnet(arguments.depth)
    if arguments.init == "he":
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
    return model.to(memory_format=torch.channels_last)


def optimize(model: nn.Module, arguments: argparse.Namespace, total_steps: int) -> tuple[Any, Any]:
    """Returns the optimizer and the schedule, of PyTorch alone."""
    schedules = torch.optim.lr_scheduler
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    decay = arguments.weight_decay
    groups = [
        {"params": kernels, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0 if arguments.decay_kernels_only else decay},
    ]
    rate = arguments.max_lr
    if arguments.policy == "one_cycle":
        low, high = arguments.momentum
        optimizer = torch.optim.SGD(groups, rate / arguments.div_factor, high)
        return optimizer, schedules.OneCycleLR(
            optimizer,
            rate,
            total_steps=total_steps,
            pct_start=0.45,
            anneal_strategy="linear",
            cycle_momentum=low != high,
            base_momentum=low,
            max_momentum=high,
            div_factor=arguments.div_factor,
            final_div_factor=arguments.final_div_factor,
            three_phase=True,
        )
    optimizer = torch.optim.SGD(groups, rate, 0.9)
    if arguments.policy == "piecewise":
        milestones = [total_steps // 2, total_steps * 3 // 4]
        return optimizer, schedules.MultiStepLR(optimizer, milestones)
    warm_up = total_steps // 20
    parts = [
        schedules.LinearLR(optimizer, 0.01, 1.0, warm_up),
        schedules.CosineAnnealingLR(optimizer, total_steps - warm_up),
    ]
    return optimizer, schedules.SequentialLR(optimizer, parts, [warm_up])


class Images:
    """The training images in memory, padded, and crops and flips of them."""

    def __init__(self, x: np.ndarray, y: np.ndarray, padding: str) -> None:
        border = ((0, 0), (4, 4), (4, 4), (0, 0))
        self.reflect = padding == "reflect"
        self.x = torch.from_numpy(np.pad(x, border, "reflect" if self.reflect else "constant"))
        self.y = torch.from_numpy(y.ravel()).long()

    def batch(self, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns standardised images, channels last in memory, and labels."""
        size, side = len(chosen), torch.arange(32)
        top, left = torch.randint(0, 9, (2, size, 1))
        rows, columns = (top + side)[:, :, None], (left + side)[:, None, :]
        images = standardised(self.x[chosen[:, None, None], rows, columns])
        flipped = torch.rand(size)[:, None, None, None] < 0.5
        images = torch.where(flipped, images.flip(3), images)
        return images.contiguous(memory_format=torch.channels_last), self.y[chosen]


def standardised(images: torch.Tensor) -> torch.Tensor:
    """Returns uint8 images with the channels second and as numbers around 0."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images.permute(0, 3, 1, 2) - mean) / std


def main() -> None:
    """Trains, epoch by epoch, and writes what came out."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    with np.load(arguments.data) as data:
        train = Images(data["x_train"], data["y_train"], arguments.padding)
        test_x = standardised(torch.from_numpy(data["x_test"]))
        test_y = torch.from_numpy(data["y_test"].ravel()).long()
    size = arguments.batch_size
    steps = len(train.y) // size
    model = build(arguments)
    optimizer, schedule = optimize(model, arguments, steps * arguments.epochs)
    bfloat16 = arguments.precision == "bfloat16"

    def logits(images: torch.Tensor) -> torch.Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return model(images).float()

    history: list[dict[str, float]] = []
    checkpoint = arguments.out.with_suffix(".pt")
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    if checkpoint.exists():
        stored = torch.load(checkpoint, weights_only=False)
        for name, part in parts.items():
            part.load_state_dict(stored[name])
        torch.set_rng_state(stored["random"])
        history = stored["history"]
    for epoch in range(len(history), arguments.epochs):
        began, total = time.monotonic(), 0.0
        model.train()
        for chosen in torch.randperm(len(train.y))[: steps * size].split(size):
            images, labels = train.batch(chosen)
            loss = functional.cross_entropy(logits(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            found = torch.cat([logits(images) for images in test_x.split(500)])
        row = {
            "loss": total / steps,
            "val_loss": functional.cross_entropy(found, test_y).item(),
            "val_accuracy": (found.argmax(1) == test_y).float().mean().item(),
            "seconds": time.monotonic() - began,
        }
        history.append(row)
        print(epoch + 1, {name: round(value, 4) for name, value in row.items()}, flush=True)
        state = {name: part.state_dict() for name, part in parts.items()}
        partial = checkpoint.with_suffix(".partial")
        torch.save({**state, "random": torch.get_rng_state(), "history": history}, partial)
        partial.replace(checkpoint)
    write(arguments, history)
    checkpoint.unlink(missing_ok=True)


def write(arguments: argparse.Namespace, history: list[dict[str, float]]) -> None:
    """Writes settings, machine and history."""
    cpuinfo = dict(
        line.split("\t", 1)
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if "\t" in line
    )
    flags = cpuinfo["flags"].split()
    settings = {k: v for k, v in vars(arguments).items() if k not in ("data", "out", "threads")}
    content = {
        "settings": settings,
        "environment": {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "processor": cpuinfo["model name"].strip(": \t"),
            "bfloat16": [name for name in ("amx_bf16", "avx512_bf16") if name in flags],
            "threads": arguments.threads,
        },
        "test_accuracy": history[-1]["val_accuracy"],
        "test_loss": history[-1]["val_loss"],
        "seconds": sum(row["seconds"] for row in history),
        "history": history,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
