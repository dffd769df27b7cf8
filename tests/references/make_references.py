"""Writes the values that PyTorch and fastai give, which the tests compare with.

usage: PYTHONPATH=. python tests/references/make_references.py FASTAI_SCHEDULE_PY

Needs PyTorch. FASTAI_SCHEDULE_PY is `fastai/callback/schedule.py` of an unpacked fastai wheel; the two
suggestion functions are taken out of it, since importing fastai needs torchvision.
"""

import ast
import itertools
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from evidence.reproduction.cifar_resnet.pytorch_reference import resnet

HERE = Path(__file__).parent
MOMENTUM = {"base_momentum": 0.85, "max_momentum": 0.95}


def one_cycle(**arguments: object) -> dict:
    """Returns the values of PyTorch's scheduler, one at each update."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, **arguments, **MOMENTUM)
    values: dict = {"lr": [], "momentum": []}
    for step in range(arguments["total_steps"]):
        for name, seen in values.items():
            seen.append(optimizer.param_groups[0][name])
        optimizer.step()
        if step + 1 < arguments["total_steps"]:
            scheduler.step()
    return {"arguments": {**arguments, **MOMENTUM}, **values}


def one_cycles() -> list[dict]:
    """Returns the shapes that people use, and odd ones: fractional boundaries, one step, no descent."""
    cases = []
    for three_phase, strategy in itertools.product((True, False), ("linear", "cos")):
        for total, pct, div, final in (
            (100, 0.45, 10.0, 1e4),
            (97, 0.3, 25.0, 1e4),
            (33, 0.2345, 20.0, 1e8),
            (7, 0.5, 1.0, 2.0),
            (3, 0.45, 10.0, 1e4),
            (1, 0.45, 10.0, 1e4),
            (40, 0.0, 10.0, 1e4),
        ):
            cases.append(
                one_cycle(
                    max_lr=0.8,
                    total_steps=total,
                    pct_start=pct,
                    anneal_strategy=strategy,
                    div_factor=div,
                    final_div_factor=final,
                    three_phase=three_phase,
                )
            )
    return cases


def suggestions(source: str) -> list[dict]:
    """Returns what fastai's functions say to curves of many shapes."""
    names = ("valley", "minimum")
    tree = ast.parse(source)
    tree.body = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names
    ]
    scope = {"np": np, "to_np": lambda tensor: tensor.numpy()}
    exec(compile(tree, "schedule.py", "exec"), scope)
    rng = np.random.default_rng(0)
    cases = []
    for points in (16, 25, 85, 300):
        lr = np.logspace(-7, 1, points)
        x = np.log10(lr)
        for shape in (
            2.3 - 1.5 / (1 + np.exp(-2 * (x + 2))) + np.exp(4 * (x - 0.5)),
            2.3 - 1.5 / (1 + np.exp(-2 * (x + 2))),
            (x + 2) ** 2,
            3.0 - 0.1 * x,
        ):
            for noise in (0.0, 0.02, 0.3):
                loss = shape + noise * rng.standard_normal(points)
                # Doubles, so that both sides see the same numbers.
                tensors = torch.tensor(lr), torch.tensor(loss)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    said = {name: scope[name](*tensors, points)[0] for name in names}
                cases.append({"lr": lr.tolist(), "loss": loss.tolist(), **said})
    return cases


def resnet_steps() -> list[dict]:
    """Returns logits and norms of the weights of ResNet-8 before and after updates at a constant rate.

    Weights and images are drawn from NumPy, in the order of the layers, kernels as Keras has them.
    """
    rng = np.random.default_rng(0)
    model = resnet(8)
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear)
    layers = [module for module in model.modules() if isinstance(module, kinds)]
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.weight.copy_(torch.tensor(rng.uniform(0.5, 1.5, layer.num_features)))
                layer.bias.copy_(torch.tensor(rng.uniform(-0.5, 0.5, layer.num_features)))
                continue
            kernel = layer.weight.permute(2, 3, 1, 0) if layer.weight.ndim == 4 else layer.weight.T
            kernel.copy_(torch.tensor(0.1 * rng.standard_normal(kernel.shape)))
            if layer.bias is not None:
                layer.bias.zero_()
    x = rng.standard_normal((4, 16, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, (4, 16))
    images, labels = torch.tensor(x).permute(0, 1, 4, 2, 3), torch.tensor(y)
    decay = 0.01
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim == 1]},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.02, momentum=0.9)

    def seen() -> dict:
        model.eval()
        with torch.no_grad():
            logits = model(images[0]).tolist()
        model.train()
        state = model.state_dict().items()
        norms = [float(v.double().norm()) for name, v in state if "num_batches" not in name]
        return {"logits": logits, "norms": norms}

    before = seen()
    for batch, of_batch in zip(images, labels, strict=True):
        loss = torch.nn.functional.cross_entropy(model(batch), of_batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    settings = {"learning_rate": 0.02, "momentum": 0.9, "weight_decay": decay}
    return [{"settings": settings, "before": before, "after": seen()}]


def main() -> None:
    """Writes the files beside this one."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    versions = {"torch": torch.__version__}
    for name, cases in (
        ("pytorch_one_cycle", one_cycles()),
        ("pytorch_resnet", resnet_steps()),
        ("fastai_suggestions", suggestions(Path(sys.argv[1]).read_text(encoding="utf-8"))),
    ):
        text = json.dumps({"versions": versions, "cases": cases})
        (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
