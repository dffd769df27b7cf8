"""What the guides give to copy does what they say: the code is taken from the page."""

import functools
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_onecycle import OneCycle

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


def small() -> tuple[keras.Model, Any, Any, Any]:
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.BatchNormalization()],
        name="backbone",
    )
    model = keras.Sequential([keras.Input((4,)), backbone, keras.layers.Dense(3, name="head")])
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    y = np.argmax(x[:, :3], axis=1)
    return model, backbone, x, y


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def distances(model: keras.Model, x: Any, y: Any, max_lr: Any) -> list[float]:
    """How far the weights of the backbone, and those of the head, move in one cycle at most."""
    parts = (model.get_layer("backbone"), model.get_layer("head"))
    before = [part.get_weights() for part in parts]
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[OneCycle(max_lr)])
    return [
        max(np.abs(new - old).max() for new, old in zip(part.get_weights(), of, strict=True))
        for part, of in zip(parts, before, strict=True)
    ]


def test_frozen_and_then_unfrozen_and_compiled_again() -> None:
    model, backbone, x, y = small()
    backbone.trainable = False
    model.compile(keras.optimizers.AdamW(), LOSS)
    of_backbone, of_head = distances(model, x, y, 0.01)
    assert of_backbone == 0
    assert of_head > 0.005
    backbone.trainable = True
    model.compile(keras.optimizers.AdamW(), LOSS)
    assert min(distances(model, x, y, 0.01)) > 0.005


def test_without_compiling_again_keras_stops() -> None:
    model, backbone, x, y = small()
    backbone.trainable = False
    model.compile(keras.optimizers.AdamW(), LOSS)
    model.fit(x, y, verbose=0)
    backbone.trainable = True
    model.make_train_function(force=True)
    with pytest.raises((ValueError, KeyError)):
        model.fit(x, y, verbose=0)


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="Keras 3.15 has MultiOptimizer"
)
def test_two_steps_with_one_optimizer() -> None:
    model, _, x, y = small()
    # Its averages move, whatever the rate is.
    model.get_layer("backbone").layers[-1].trainable = False
    adamw = keras.optimizers.AdamW
    parts = keras.optimizers.OptimizerMap(adamw(), {".*head/.*": adamw()})
    model.compile(keras.optimizers.MultiOptimizer(parts), LOSS)
    of_backbone, of_head = distances(model, x, y, {"default": 1e-12, ".*head/.*": 0.01})
    assert of_backbone < 1e-9
    assert of_head > 0.005
    assert min(distances(model, x, y, {"default": 0.01, ".*head/.*": 0.01})) > 0.005


README = (DOCS.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.any_backend
def test_the_script_of_the_readme_keeps_its_rate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    y = random.integers(10, size=600)
    x = 25.0 * y[:, None, None] + random.normal(scale=5, size=(600, 28, 28))
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: ((x, y), (x[:50], y[:50])))
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    fit = keras.Model.fit

    @functools.wraps(fit)
    def killed(model: keras.Model, *arguments: Any, callbacks: Any, **others: Any) -> Any:
        # The range test is a `fit`, too: it has no backup.
        of_script = any(isinstance(c, keras.callbacks.BackupAndRestore) for c in callbacks)
        callbacks = [*callbacks, Kill()] if of_script else callbacks
        return fit(model, *arguments, callbacks=callbacks, **others)

    monkeypatch.setattr(keras.Model, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        exec(script, {})
    before = (tmp_path / "range_test.json").read_bytes()
    monkeypatch.setattr(keras.Model, "fit", fit)
    names: dict[str, Any] = {}
    exec(script, names)
    assert (tmp_path / "range_test.json").read_bytes() == before
    cycle, steps = names["cycle"], 5 * -(-600 // 128)
    # The last three of five epochs, at their place in the cycle.
    assert names["model"].history.epoch == [2, 3, 4]
    assert len(cycle.history["learning_rate"]) == steps * 3 // 5
    last = cycle.max_lr / cycle.div_factor / cycle.final_div_factor
    assert cycle.history["learning_rate"][-1] == pytest.approx(last, rel=1e-3)
    assert (tmp_path / "cycle.png").exists()


def test_the_readme_says_what_the_quickstart_printed() -> None:
    printed = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    losses = dict(re.findall(r"\| (\S.*?) \| (\d\.\d\d ± \d\.\d\d) \|", printed))
    (needs,) = set(re.findall(r"AdamW\(\) needs more than (\d+) updates, not (\d+)", printed))
    text = " ".join(README.split()).replace("1,408", "1408")
    assert f"reaches in {needs[1]} updates" in text
    of_both = f"(after {needs[1]} each: {losses['OneCycle']} against {losses['AdamW()']}"
    assert f"does not reach in {needs[0]}** {of_both}, three seeds" in text
    assert f"with a warm-up does as well ({losses['warm-up, cosine']});" in text
    assert f"without one it ends at {losses['cosine']}, and" in text
    assert f"a constant rate at {losses['constant']}." in text
