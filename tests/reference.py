"""What the tests compare with: plain Python and an optimizer stepped eagerly with Python floats.

Nothing here imports the package.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

REFERENCES = Path(__file__).parent / "references"


def load(name: str) -> list[dict[str, Any]]:
    """The cases of a file that another library's values were written to."""
    return json.loads((REFERENCES / f"{name}.json").read_text(encoding="utf-8"))["cases"]


def one_cycle(
    step: int,
    total_steps: int,
    *,
    max_lr: float,
    pct_start: float = 0.45,
    anneal_strategy: str = "linear",
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    div_factor: float = 10.0,
    final_div_factor: float = 1e4,
    three_phase: bool = True,
) -> tuple[float, float]:
    """LR and momentum by the formula of PyTorch's documentation, in Python's doubles."""

    def anneal(start: float, end: float, fraction: float) -> float:
        if anneal_strategy == "linear":
            return start + fraction * (end - start)
        return end + (start - end) / 2 * (1 + math.cos(math.pi * fraction))

    low, high = max_lr / div_factor, max_lr
    phases = [(pct_start * total_steps - 1, low, high, max_momentum, base_momentum)]
    if three_phase:
        down = 2 * pct_start * total_steps - 2
        phases.append((down, high, low, base_momentum, max_momentum))
        phases.append((total_steps - 1, low, low / final_div_factor, max_momentum, max_momentum))
    else:
        phases.append((total_steps - 1, high, low / final_div_factor, base_momentum, max_momentum))
    begin = 0.0
    step = min(step, total_steps - 1)
    for end, lr_start, lr_end, m_start, m_end in phases:
        if step <= end or end == total_steps - 1:
            fraction = (step - begin) / (end - begin)
            return anneal(lr_start, lr_end, fraction), anneal(m_start, m_end, fraction)
        begin = end
    raise AssertionError


def data(rows: int = 160, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of shape (rows, 4) and targets of shape (rows, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4)).astype("float32")
    return x, np.tanh(x @ rng.normal(size=(4, 1))).astype("float32")


def build(*layers: keras.layers.Layer) -> keras.Model:
    """A small network, always with the same weights."""
    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, activation="tanh"),
            *layers,
            keras.layers.Dense(1),
        ]
    )


class TrainedElsewhere(keras.Sequential):
    """A model whose train step makes no update with `model.optimizer`."""

    def train_step(self, *state_and_data: Any) -> Any:
        logs = {"loss": keras.ops.ones(())}
        return (logs, state_and_data[0]) if keras.backend.backend() == "jax" else logs


def forward(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """What the network of `build()` makes of `x`, in NumPy's doubles."""
    kernel, bias, out_kernel, out_bias = model.get_weights()
    return np.tanh(x.astype("float64") @ kernel + bias) @ out_kernel + out_bias


def gradients(model: keras.Model, x: np.ndarray, y: np.ndarray) -> list[Any]:
    """Gradients of the mean squared error of the network of `build()`, written out in NumPy."""
    kernel, bias, out_kernel, _ = model.get_weights()
    x = x.astype("float64")
    hidden = np.tanh(x @ kernel + bias)
    error = 2 * (forward(model, x) - y) / y.size
    before = error @ out_kernel.T * (1 - hidden**2)
    made = (x.T @ before, before.sum(axis=0), hidden.T @ error, error.sum(axis=0))
    return [keras.ops.convert_to_tensor(gradient.astype("float32")) for gradient in made]


def train_eagerly(
    model: keras.Model,
    optimizer: keras.Optimizer,
    batches: Sequence[tuple[np.ndarray, np.ndarray]],
    set_floats: Callable[[keras.Optimizer, int], None],
) -> None:
    """Steps `optimizer`, after `set_floats(optimizer, update)` has set its Python floats."""
    optimizer.build(model.trainable_variables)
    accumulation = optimizer.gradient_accumulation_steps or 1
    for number, (x, y) in enumerate(batches):
        set_floats(optimizer, number // accumulation)
        optimizer.apply(gradients(model, x, y), model.trainable_variables)
    # Keras's `fit` does this at its end: averaged weights, where the optimizer keeps them.
    optimizer.finalize_variable_values(model.trainable_variables)


def split(x: np.ndarray, y: np.ndarray, batch_size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of one epoch, in order."""
    return [(x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, len(x), batch_size)]


def assert_same_weights(
    model: keras.Model, other: keras.Model, rtol: float = 1e-5, atol: float = 0.0
) -> None:
    """Weights agree to `rtol` of their size, or to `atol`."""
    for got, wanted in zip(model.get_weights(), other.get_weights(), strict=True):
        within = max(rtol * np.abs(wanted).max(), atol)
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=within)
