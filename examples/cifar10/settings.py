"""The settings of a training, and JSON files that are complete or not there."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLICIES = ("one_cycle", "cosine", "piecewise", "constant")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
INPUTS = ("auto", "tf.data", "arrays")


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a training ends.

    Args:
        policy: `"one_cycle"`; `"cosine"`, Keras's `CosineDecay` after a warm-up of a twentieth;
            `"piecewise"`, divided by 10 after half and after three quarters; `"constant"`.
        max_lr: The highest learning rate. `None`: what a range test suggests.
        momentum: Momentum of all policies but one cycle with `cycle_momentum`.
        weight_decay: L2 in the loss, whose gradient is `weight_decay * w`, as in the papers.
        precision: Dtype policy of the layers. `"auto"`: what should be fastest on the machine.
        validation_freq: Epochs from one evaluation on the test set to the next.
    """

    dataset: str = "cifar10"
    num_train: int | None = None
    depth: int = 56
    epochs: int = 50
    batch_size: int = 512
    policy: str = "one_cycle"
    max_lr: float | None = None
    div_factor: float = 10.0
    final_div_factor: float = 1e4
    pct_start: float = 0.45
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    dropout: float = 0.0
    label_smoothing: float = 0.0
    batch_norm_momentum: float = 0.9
    padding: str = "zero"
    precision: str = "auto"
    steps_per_execution: int = 1
    seed: int = 0
    validation_freq: int = 1
    input: str = "auto"
    synchronized: bool = False


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a file, complete or not at all, with a line for each item."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote, or names the file that is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is damaged, or no JSON. Delete {path.parent} to train again. ({error})"
        ) from error
