"""The CIFAR-10 example: what it writes and refuses, and that a kill loses one epoch at most."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import reference
import tiny_cifar
from examples.cifar10 import precision, resume, train, training
from examples.cifar10.devices import Devices, set_up
from examples.cifar10.resume import Backup, Log, read_log
from examples.cifar10.settings import Settings, read_json, write_json

EPOCHS = 3
UPDATES = 2  # of an epoch


def quick(**changes: object) -> Settings:
    settings = {"depth": 8, "epochs": EPOCHS, "batch_size": 80, "max_lr": 0.05}
    return Settings(**{**settings, "precision": "float32", **changes})


def assert_one_unbroken_cycle(results: dict) -> None:
    """Each epoch ends with the values that the formula has for its last update."""
    settings, history = results["settings"], results["history"]
    total = EPOCHS * UPDATES
    ends = range(UPDATES - 1, total, UPDATES)
    wanted = [reference.one_cycle(step, total, max_lr=settings["max_lr"]) for step in ends]
    got = [(row["learning_rate"], row["momentum"]) for row in history]
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    assert [row["epoch"] for row in history] == list(range(EPOCHS))
    assert results["updates"] == total


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cifar.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def resumed(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with a range test, interrupted before the backup of its second epoch, and resumed.

    The machine that resumes it would choose another precision, and must not repeat the range test.
    """
    out = tmp_path_factory.mktemp("resumed")
    settings = quick(max_lr=None, precision="auto", validation_freq=EPOCHS)
    arguments = {"data_dir": data_dir, "verbose": 0}

    def choose(name: str) -> None:
        patch.setattr(training, "fast_precision", lambda: (name, "in this test"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "resnet", tiny_cifar.network)
        choose("float32")
        tiny_cifar.interrupt_at(1, patch)
        with pytest.raises(KeyboardInterrupt):
            training.run(settings, out, **arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "resnet", tiny_cifar.network)
        choose("mixed_float16")
        patch.setattr(training, "lr_find", None)
        training.run(settings, out, **arguments)
    return out


def test_resumed_it_goes_on_in_the_cycle(resumed: Path) -> None:
    results = read_json(resumed / "results.json")
    assert_one_unbroken_cycle(results)
    rates = json.loads((resumed / "range_test.json").read_text())["lr"]
    assert rates[0] <= results["settings"]["max_lr"] <= rates[-1]
    assert results["settings"]["precision"] == "float32"
    assert read_json(resumed / "settings.json")["precision"] == "float32"
    # Only the first and the last epoch are evaluated.
    assert ["val_accuracy" in row for row in results["history"]] == [True, False, True]
    assert results["test_accuracy"] == results["history"][-1]["val_accuracy"]
    assert results["environment"]["keras"] == keras.__version__
    # The log has the epoch that was not backed up twice, the history once.
    assert len((resumed / "log.csv").read_text().splitlines()) == 1 + EPOCHS + 1
    assert not (resumed / "backup").exists()


def test_done_is_done(resumed: Path, data_dir: Path) -> None:
    before = (resumed / "results.json").read_bytes()
    settings = quick(max_lr=None, precision="auto", validation_freq=EPOCHS)
    assert training.run(settings, resumed, data_dir=data_dir) == json.loads(before)
    assert (resumed / "results.json").read_bytes() == before


# Runs the example, and kills it in its second backup, of which half is written.
KILLED = """
import os, signal, sys, keras, tiny_cifar
from pathlib import Path
from examples.cifar10 import train, training
training.resnet = tiny_cifar.network
save, saved = keras.Model.save_weights, []
def killed(model, path, **arguments):
    save(model, path, **arguments)
    saved.append(path)
    if len(saved) == 2:
        os.truncate(path, Path(path).stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
keras.Model.save_weights = killed
train.main(sys.argv[1:])
"""


@pytest.mark.any_backend
def test_killed_while_a_backup_is_written_it_goes_on(
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    out = tmp_path / "out"
    options = ["--depth", "8", "--epochs", str(EPOCHS), "--batch-size", "40", "--verbose", "2"]
    options += ["--num-train", "80", "--max-lr", "0.05", "--resume"]
    options += ["--data-dir", str(data_dir), "--out", str(out)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **path},
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    backup = Backup(out / "backup")
    assert backup.epochs == 1
    assert list(backup.folder.glob("partial*"))
    assert len(read_log(out / "log.csv")) == 2

    monkeypatch.setattr(training, "resnet", tiny_cifar.network)
    assert train.main(options) == 0
    said = capsys.readouterr().out
    assert f"Epoch 1/{EPOCHS}" not in said
    assert f"Epoch 2/{EPOCHS}" in said
    assert "as before" in said
    assert_one_unbroken_cycle(read_json(out / "results.json"))
    for name in ("model.weights.h5", "schedule.png", "training.png", "settings.json"):
        assert (out / name).stat().st_size > 0


@pytest.mark.any_backend
def test_keras_still_backs_up_in_two_files(tmp_path: Path) -> None:
    """`resume.Backup` can go when this fails: Keras no longer trains an epoch twice in silence."""
    x, y = reference.data(16)
    model = reference.build()
    model.compile("sgd", loss="mse")
    metadata, seen = tmp_path / "training_metadata.json", []

    class See(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
            seen.append((epoch, int(self.model.optimizer.iterations)))

    def fit(epochs: int) -> None:
        backup = keras.callbacks.BackupAndRestore(
            tmp_path, double_checkpoint=True, delete_checkpoint=False
        )
        model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[backup, See()])

    fit(1)
    one = metadata.read_text()
    fit(2)
    # As if it was killed between the weights of the second epoch and the number of it.
    metadata.write_text(one)
    fit(3)
    assert seen == [(0, 0), (1, 2), (1, 4), (2, 6)]


def test_the_log_has_one_row_for_each_epoch(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log = Log(path)
    log.on_train_begin()
    for epoch, logs in enumerate([{"loss": 2.5, "val_loss": 3.0, "val_accuracy": 0.5}, {}, {}]):
        log.on_epoch_begin(epoch)
        log.on_epoch_end(epoch, {"loss": 1.5, **logs})
    # Killed, and resumed in an epoch that is not evaluated. Then the loss diverges.
    log = Log(path)
    log.on_train_begin()
    log.on_epoch_begin(2)
    log.on_epoch_end(2, {"loss": 0.5})
    log.on_epoch_begin(3)
    log.on_epoch_end(3, {"loss": float("nan"), "val_loss": float("inf"), "val_accuracy": 0.1})
    rows = read_log(path)
    assert all(row.pop("seconds") >= 0 for row in rows)
    assert rows == [
        {"epoch": 0, "loss": 2.5, "val_loss": 3.0, "val_accuracy": 0.5},
        {"epoch": 1, "loss": 1.5},
        {"epoch": 2, "loss": 0.5},
        {"epoch": 3, "val_accuracy": 0.1},
    ]


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("processor", "wanted"),
    [
        ({"device": "cpu", "flags": {"avx2", "avx512f", "avx512_bf16"}}, "mixed_bfloat16"),
        ({"device": "cpu", "flags": {"avx2", "amx_bf16"}}, "mixed_bfloat16"),
        ({"device": "cpu", "flags": {"avx2", "avx512f"}}, "float32"),
        ({"device": "cpu"}, "float32"),
        ({"device": "gpu", "capability": 8.0}, "mixed_bfloat16"),
        ({"device": "gpu", "capability": 7.5}, "float32"),
        ({"device": "gpu", "flags": {"avx512_bf16"}}, "float32"),
        ({"device": "tpu"}, "mixed_bfloat16"),
    ],
)
def test_the_precision_is_what_the_processor_is_fast_in(processor: dict, wanted: str) -> None:
    assert precision.choose(**processor)[0] == wanted


def test_the_processor_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: amx_bf16\nflags\t\t: fpu avx512_bf16\n")
    assert {"fpu", "avx512_bf16"} <= precision.cpu_flags(cpuinfo)
    assert "amx_bf16" not in precision.cpu_flags(cpuinfo)
    assert precision.cpu_flags(tmp_path / "none") == set()
    assert precision.processor(cpuinfo) == "amx_bf16, avx512_bf16"  # The name, and what it has.
    assert precision.processor(tmp_path / "none") == "cpu"
    for flags, wanted in (({"avx512_bf16"}, "mixed_bfloat16"), ({"avx2"}, "float32")):
        monkeypatch.setattr(precision, "cpu_flags", lambda flags=flags: flags)
        assert precision.fast_precision()[0] == wanted


@pytest.mark.parametrize("policy", ["cosine", "piecewise", "constant"])
def test_other_policies(policy: str) -> None:
    rate = training.optimizer(quick(policy=policy), 100).get_config()["learning_rate"]
    if policy == "constant":
        assert rate == pytest.approx(0.05)
        return
    schedule = keras.saving.deserialize_keras_object(rate)
    rates = [float(schedule(step)) for step in (0, 5, 49, 60, 80, 100)]
    if policy == "piecewise":
        np.testing.assert_allclose(rates, np.array([1, 1, 1, 0.1, 0.01, 0.01]) * 0.05, rtol=1e-5)
    else:
        assert rates[0] == 0
        assert rates[1] == pytest.approx(0.05)
        # Half a cosine wave over the 95 steps that follow the warm-up.
        assert rates[3] == pytest.approx(0.05 * (1 + np.cos(np.pi * 55 / 95)) / 2, rel=1e-4)
        assert rates[5] == pytest.approx(0, abs=1e-7)


@pytest.mark.any_backend
def test_other_settings_in_the_folder_are_named(data_dir: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "settings.json", {**vars(quick()), "seed": 3})
    with pytest.raises(ValueError, match=r"seed=3.*Received: seed=0"):
        training.run(quick(), tmp_path, data_dir=data_dir)
    (tmp_path / "settings.json").write_text('{"damaged')
    with pytest.raises(ValueError, match=r"settings\.json is damaged"):
        training.run(quick(), tmp_path, data_dir=data_dir)


@pytest.mark.any_backend
def test_nothing_is_overwritten(tmp_path: Path) -> None:
    resume.claim(tmp_path, resume=False)
    (tmp_path / "notes.txt").write_text("mine")
    for asked in (False, True):
        with pytest.raises(SystemExit, match="something other than a training"):
            resume.claim(tmp_path, resume=asked)
    write_json(tmp_path / "settings.json", vars(quick()))
    with pytest.raises(SystemExit, match=r"--resume .*--out"):
        resume.claim(tmp_path, resume=False)
    resume.claim(tmp_path, resume=True)


@pytest.mark.any_backend
def test_what_cannot_be_shared_by_devices_is_named(data_dir: Path) -> None:
    three = Devices(replicas=3, equal_shares=True)
    with pytest.raises(ValueError, match=r"multiple of the 3 devices.*batch_size=80"):
        training.prepare(quick(batch_size=80), three, data_dir)
    with pytest.raises(ValueError, match="50 test images cannot be shared equally by 3"):
        training.prepare(quick(batch_size=60), three, data_dir)
    with pytest.raises(ValueError, match=r"input='tf\.data'"):
        training.prepare(quick(batch_size=60, input="tf.data"), three, data_dir)


@pytest.mark.any_backend
def test_only_one_cycle_has_a_range_test(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"policy='cosine'.*max_lr=None"):
        training.run(quick(policy="cosine", max_lr=None), tmp_path)
    with pytest.raises(ValueError, match="one_cycle, cosine, piecewise, constant"):
        training.run(replace(quick(), policy="multistep"), tmp_path)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "options",
    [
        ["--epochs", "0"],
        ["--max-lr", "-1"],
        ["--max-lr", "nan"],
        ["--strategy", "many"],
        ["--steps-per-execution", "2", "--strategy", "mirrored"],
        ["--precision", "float8"],
    ],
)
def test_bad_options_are_named(options: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        train.parse(options)
    assert options[0] in capsys.readouterr().err


def test_strategies_that_do_not_work_are_named_with_one_that_does() -> None:
    with pytest.raises(
        ValueError, match=r"MultiWorkerMirroredStrategy.*KERAS_BACKEND=jax.*data_para"
    ):
        set_up("multi_worker")
    on_jax = keras.backend.backend() == "jax"
    other = "mirrored" if on_jax else "data_parallel"
    with pytest.raises(ValueError, match=f"--strategy {other} is for KERAS_BACKEND="):
        set_up(other)
    own = {"jax": "data_parallel", "tensorflow": "mirrored"}.get(keras.backend.backend(), "none")
    with pytest.raises(ValueError, match="--coordinator"):
        set_up(own, num_processes=2)
    with pytest.raises(ValueError, match="--num-processes"):
        set_up("none", coordinator="localhost:1")
    with pytest.raises(ValueError, match="process_id=1"):
        set_up("none", process_id=1)
