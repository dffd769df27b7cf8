"""What the guides give to copy does what they say: the code is taken from the page."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

DOCS = Path(__file__).parent.parent / "docs"
UPDATES = 26


def code(page: str, heading: str) -> str:
    """The first piece of Python under a heading."""
    section = (DOCS / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


def scheduler(heading: str, *arguments: Any, **keywords: Any) -> Any:
    """A callback made by the class of a section, without its call of `fit`."""
    names: dict[str, Any] = {}
    exec(code("coming_from.md", heading).partition("\n\n\nmodel.fit")[0], names)
    (made,) = [value for name, value in names.items() if name in ("Triangular", "WarmRestarts")]
    return made(*arguments, **keywords)


def history(callback: Any) -> dict[str, np.ndarray]:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5, momentum=0.7), loss="mse")
    x = np.ones((UPDATES, 2))
    model.fit(x, x[:, :1], batch_size=1, verbose=0, callbacks=[callback])
    assert float(model.optimizer.learning_rate) == 0.5
    return callback.history


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_triangular_cycles_are_those_of_pytorch(scale: float) -> None:
    step_size, values = 4, []
    # torch.optim.lr_scheduler.CyclicLR, update by update.
    for step in range(UPDATES):
        cycle = np.floor(1 + step / (2 * step_size))
        x = 1 + step / (2 * step_size) - cycle
        height = x / 0.5 if x <= 0.5 else (x - 1) / (0.5 - 1)
        values.append(height * scale ** (cycle - 1))
    of = history(scheduler("Triangular cycles", 0.001, 0.006, step_size, scale=scale))
    np.testing.assert_allclose(of["learning_rate"], 0.001 + 0.005 * np.array(values), rtol=1e-5)
    np.testing.assert_allclose(of["momentum"], 0.9 - 0.1 * np.array(values), rtol=1e-5)


@pytest.mark.parametrize("t_mul", [1.0, 2.0])
def test_warm_restarts_are_those_of_pytorch(t_mul: float) -> None:
    values: list[float] = []
    length = 4.0
    # Loshchilov and Hutter, equation 5: each period is `t_mul` times as long as the last.
    while len(values) < UPDATES:
        values += [0.1 * (1 + np.cos(np.pi * t / length)) / 2 for t in range(int(length))]
        length *= t_mul
    of = history(scheduler("Warm restarts", 0.1, 4, t_mul))
    np.testing.assert_allclose(of["learning_rate"], values[:UPDATES], rtol=1e-4, atol=1e-8)
