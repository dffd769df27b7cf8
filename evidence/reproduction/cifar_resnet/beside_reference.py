"""The example's trainings beside the same in plain PyTorch, which pytorch_reference.py makes."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evidence.pages import ROOT, table
from evidence.reproduction.cifar_resnet.beside_published import POLICIES
from evidence.reproduction.drawing import spread
from examples.cifar10.settings import read_json

# What tells trainings apart here; in all else the reference has fastai's settings.
COMPARED = ("depth", "policy", "epochs", "batch_size", "max_lr")


def beside_reference(out: Path = ROOT) -> str:
    """Returns the test accuracies of both in Markdown, a row for each training of the reference."""
    results = out / "evidence" / "results" / "super-convergence"
    reference, ours = (
        _accuracies(results, pattern)
        for pattern in ("pytorch-reference/*.json", "resnet*/*/results.json")
    )
    rows = [
        [
            f"ResNet-{depth}",
            POLICIES[policy],
            epochs,
            f"{max_lr:g}",
            spread(accuracies),
            spread(ours[key]) if (key := (depth, policy, epochs, size, max_lr)) in ours else "",
        ]
        for (depth, policy, epochs, size, max_lr), accuracies in sorted(reference.items())
    ]
    return table(
        ["network", "policy", "epochs", "max. learning rate", "plain PyTorch, %", "the example, %"],
        rows,
    )


def _accuracies(results: Path, pattern: str) -> Mapping[tuple[Any, ...], list[float]]:
    found = defaultdict(list)
    for path in sorted(results.glob(pattern)):
        content = read_json(path)
        key = tuple(content["settings"][name] for name in COMPARED)
        found[key].append(100 * content["test_accuracy"])
    return found
