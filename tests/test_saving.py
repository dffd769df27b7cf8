"""Files written in mid-cycle, and training that goes on after SIGKILL."""

import copy
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import reference
import resumable_training
from keras_onecycle import OneCycle, RangeTestResult

HERE = Path(__file__).parent
RESUMABLE = HERE / "resumable_training.py"

# Runs in a process that knows Keras alone.
LOAD = """
import json, sys
import keras, numpy as np
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    assert not any(name.startswith("keras_onecycle") for name in sys.modules)
    optimizer = model.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    np.savez(path + ".npz", *[np.array(v.value) for v in model.optimizer.variables])
    x = np.ones((8, 4), "float32")
    print(json.dumps({
        "class": f"{type(optimizer).__module__}.{type(optimizer).__name__}",
        "config": optimizer.get_config(),
        "learning_rate": float(optimizer.learning_rate),
        "history": model.fit(x, x[:, :1], verbose=0).history,
    }))
"""


def python(*arguments: Any) -> subprocess.CompletedProcess:
    paths = [str(HERE), str(HERE.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=300,
    )


def train_and_save(optimizer: keras.Optimizer, path: Path) -> tuple[keras.Model, list[np.ndarray]]:
    """Saves in the middle of a cycle, as `ModelCheckpoint` and as `model.save` do."""
    x, y = reference.data(64)
    model = reference.build()
    model.compile(optimizer, loss="mse")
    kept: list[np.ndarray] = []

    class Save(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            if batch == 4 and not kept:
                self.model.save(path / "batch.keras")
                self.model.save_weights(path / "batch.weights.h5")
                kept.extend(np.array(v.value) for v in self.model.optimizer.variables)

    checkpoint = keras.callbacks.ModelCheckpoint(str(path / "epoch{epoch}.keras"))
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[OneCycle(0.03), Save(), checkpoint],
    )
    return model, kept


@pytest.mark.any_backend
def test_files_of_mid_cycle_load_where_only_keras_is(tmp_path: Path) -> None:
    optimizers = {
        "sgd": keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        "adam": keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01, beta_1=0.8)),
    }
    paths, kept = [], {}
    for name, optimizer in optimizers.items():
        folder = tmp_path / name
        folder.mkdir()
        _, kept[name] = train_and_save(optimizer, folder)
        paths += [folder / "batch.keras", folder / "epoch1.keras"]
    run = python("-c", LOAD, *paths)
    assert run.returncode == 0, run.stderr
    assert "Skipping variable loading" not in run.stderr
    of_files = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    # On PyTorch, Keras's optimizers have classes of their own.
    plain = [type(optimizer) for optimizer in (keras.optimizers.SGD(), keras.optimizers.Adam())]
    classes = [f"{kind.__module__}.{kind.__name__}" for kind in plain for _ in range(2)]
    assert [said["class"] for said in of_files] == classes
    for said in of_files:
        config = said["config"]
        assert config.get("momentum", 0.9) == 0.9
        assert config.get("beta_1", 0.8) == 0.8
        assert config["learning_rate"] == pytest.approx(0.01)
        assert said["learning_rate"] == pytest.approx(0.01)
        assert np.isfinite(said["history"]["loss"]).all()
    for name, variables in kept.items():
        with np.load(tmp_path / name / "batch.keras.npz") as loaded:
            for got, wanted in zip(loaded.values(), variables, strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_weights_of_mid_cycle_load_into_a_plain_optimizer(tmp_path: Path) -> None:
    _, kept = train_and_save(keras.optimizers.Adam(0.01), tmp_path)
    plain = reference.build()
    plain.compile(keras.optimizers.Adam(0.5), loss="mse")
    plain.optimizer.build(plain.trainable_variables)
    plain.load_weights(tmp_path / "batch.weights.h5")
    for variable, wanted in zip(plain.optimizer.variables, kept, strict=True):
        np.testing.assert_array_equal(np.array(variable.value), wanted)
    assert float(plain.optimizer.learning_rate) == pytest.approx(0.01)


@keras.saving.register_keras_serializable(package="tests")
class OwnSGD(keras.optimizers.SGD):
    """An optimizer of the user's own, registered with Keras."""


def test_an_optimizer_of_ones_own_keeps_its_registered_class(tmp_path: Path) -> None:
    train_and_save(OwnSGD(0.01, momentum=0.9), tmp_path)
    loaded = keras.models.load_model(tmp_path / "batch.keras")
    assert type(loaded.optimizer) is OwnSGD
    assert loaded.optimizer.momentum == 0.9


def test_the_optimizer_is_the_users_again() -> None:
    x, y = reference.data(64)
    optimizer = keras.optimizers.AdamW(0.01, beta_1=0.8, weight_decay=0.1)
    before = optimizer.get_config()
    model = reference.build()
    model.compile(optimizer, loss="mse")
    in_between: list[dict] = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: in_between.append(optimizer.get_config())
    )
    model.fit(x, y, verbose=0, callbacks=[OneCycle(0.03), look])
    assert type(optimizer) is type(keras.optimizers.AdamW())
    assert optimizer.get_config() == before == in_between[0]


@pytest.mark.filterwarnings("ignore:Skipping variable loading")  # Keras pickles no slots.
def test_what_is_made_of_the_optimizer_in_mid_cycle_is_its_own() -> None:
    x, y = reference.data(64)
    model = reference.build()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    with OneCycle(0.03, total_steps=8).attach(model):
        model.train_on_batch(x, y)
        optimizer = model.optimizer
        # A number that is read leaves as a number.
        for number in (optimizer.momentum, optimizer.learning_rate):
            assert type(pickle.loads(pickle.dumps(number))) is type(copy.deepcopy(number)) is float
        config = optimizer.get_config()
        made = [
            pickle.loads(pickle.dumps(optimizer)),
            copy.copy(optimizer),
            copy.deepcopy(optimizer),
            optimizer.from_config(config),
            type(optimizer).from_config(config),
            type(optimizer)(**config),
            optimizer.__class__(**config),
            keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)),
        ]
        for copied in made:
            assert type(copied) is type(keras.optimizers.SGD())
            assert copied.momentum == 0.9
            assert float(copied.learning_rate) == pytest.approx(0.01)
            copied.momentum, copied.learning_rate = 0.5, 0.02
            assert copied.momentum == 0.5
            assert float(copied.learning_rate) == pytest.approx(0.02)


@pytest.mark.any_backend
def test_training_killed_with_sigkill_goes_on(tmp_path: Path) -> None:
    killed = python(RESUMABLE, tmp_path / "backup", tmp_path / "killed.npz", "OneCycle", 2)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed.npz").exists()

    def trained(backup: str, first: str) -> dict[str, np.ndarray]:
        out = tmp_path / f"{backup}.npz"
        resumable_training.main(str(tmp_path / backup), str(out), first)
        return dict(np.load(out))

    unbroken = trained("none", "OneCycle")
    wanted = np.array([reference.one_cycle(step, 32, max_lr=0.03) for step in range(32)])
    np.testing.assert_allclose(unbroken["learning_rate"], wanted[:, 0], rtol=1e-5)
    names = [name for name in unbroken if name.startswith("weight")]
    assert names
    for first in ("OneCycle", "BackupAndRestore"):
        shutil.copytree(tmp_path / "backup", tmp_path / first)
        rest = trained(first, first)
        np.testing.assert_allclose(rest["learning_rate"], wanted[16:, 0], rtol=1e-5)
        np.testing.assert_allclose(rest["momentum"], wanted[16:, 1], rtol=1e-5)
        for name in names:
            np.testing.assert_array_equal(rest[name], unbroken[name])
        assert rest["user_learning_rate"] == np.float32(0.01)


# What a user has before the script of docs/training.md.
BEFORE = """
import os, signal
import keras
import reference

x, y = reference.data(512)


class Model(keras.Sequential):
    def fit(self, *arguments, callbacks, **named):
        def kill(epoch, logs):
            if epoch == 5 and "KILL" in os.environ:
                os.kill(os.getpid(), signal.SIGKILL)

        if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in callbacks):
            callbacks = [*callbacks, keras.callbacks.LambdaCallback(on_epoch_begin=kill)]
        return super().fit(*arguments, callbacks=callbacks, **{**named, "verbose": 0})


keras.utils.set_random_seed(SEED)
model = Model([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
"""


@pytest.mark.any_backend
def test_the_script_of_the_docs_goes_on_at_its_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (HERE.parent / "docs" / "training.md").read_text(encoding="utf-8")
    (script,) = (
        block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "Backup" in block
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KILL", "1")
    killed = python("-c", BEFORE.replace("SEED", "1") + script)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    monkeypatch.delenv("KILL")
    kept = Path("range_test.json").read_bytes()
    # With another seed, as where there is none: a second range test would find another rate.
    names: dict[str, Any] = {}
    exec(BEFORE.replace("SEED", "2") + script, names)
    assert Path("range_test.json").read_bytes() == kept
    cycle, max_lr = names["cycle"], RangeTestResult.load("range_test.json").suggest()
    wanted = [reference.one_cycle(step, 48, max_lr=max_lr)[0] for step in range(20, 48)]
    np.testing.assert_allclose(cycle.history["learning_rate"], wanted, rtol=1e-5)
