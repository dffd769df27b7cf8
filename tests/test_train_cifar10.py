"""The CIFAR-10 example: what it writes, what it refuses, and that a kill loses next to nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from backup import Backup, read_log, trim_log

import reference
import tiny_cifar
import training
from devices import Devices, set_up
from training import Settings

ROOT = Path(__file__).parent.parent
EPOCHS = 5
UPDATES = 5  # of an epoch


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cifar.write(tmp_path_factory.mktemp("data"))


def command(out: Path, data_dir: Path, *options: str) -> list[str]:
    return [
        *(sys.executable, "-W", "ignore", str(ROOT / "examples" / "train_cifar10.py")),
        *("--depth", "8", "--epochs", str(EPOCHS), "--batch-size", "32", "--verbose", "2"),
        *("--data-dir", str(data_dir), "--out", str(out), *options),
    ]


def start(*arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def kill_when(process: subprocess.Popen, happened: Callable[[], bool]) -> None:
    """SIGKILL as soon as something has happened."""
    end = time.monotonic() + 240
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.any_backend  # It is about the files.
def test_killed_at_the_worst_moments_it_goes_on_in_the_cycle(
    data_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    backups = Backup(out / "backup")
    arguments = command(out, data_dir, "--max-lr", "0.05", "--resume")
    # While a backup is being written.
    kill_when(
        start(*arguments),
        lambda: (
            max(backups.backups(), default=0) >= 1
            and (out / "backup" / "partial-0.weights.h5").exists()
        ),
    )
    done = max(backups.backups())
    assert len(read_log(out / "log.csv")) - done <= 1
    # In the middle of an epoch.
    kill_when(start(*arguments), lambda: max(backups.backups(), default=0) > done)
    last = start(*arguments)
    said, _ = last.communicate(timeout=240)
    assert last.returncode == 0, said
    assert f"Epoch {done}/{EPOCHS}" not in said
    results = json.loads((out / "results.json").read_text())
    assert [row["epoch"] for row in results["history"]] == list(range(EPOCHS))
    wanted = [
        reference.one_cycle(UPDATES * (epoch + 1) - 1, EPOCHS * UPDATES, max_lr=0.05)
        for epoch in range(EPOCHS)
    ]
    got = [(row["learning_rate"], row["momentum"]) for row in results["history"]]
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    assert results["updates"] == EPOCHS * UPDATES
    assert results["settings"]["max_lr"] == 0.05
    assert results["environment"]["keras"] == keras.__version__
    for name in ("model.weights.h5", "schedule.png", "training.png", "settings.json"):
        assert (out / name).stat().st_size > 0
    assert not list((out / "backup").glob("epoch*"))
    # Done is done: the same command trains no more.
    before = (out / "results.json").read_bytes()
    settings = Settings(**{**results["settings"], "max_lr": 0.05})
    assert training.run(settings, out, data_dir=data_dir) == json.loads(before)
    assert (out / "results.json").read_bytes() == before


def quick(**changes: object) -> Settings:
    return Settings(**{"depth": 8, "epochs": 2, "batch_size": 80, "max_lr": 0.05, **changes})


def interrupt_at(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the backup of an epoch is about to be written."""
    save_whole = Backup.save_whole

    def save(self: Backup, model: keras.Model, path: Path) -> None:
        if path.name == f"epoch-{epoch:04d}.weights.h5":
            raise KeyboardInterrupt
        save_whole(self, model, path)

    patch.setattr(Backup, "save_whole", save)


def test_ctrl_c_and_resume(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = quick(epochs=4, validation_freq=2)
    with monkeypatch.context() as patch:
        interrupt_at(3, patch)
        with pytest.raises(KeyboardInterrupt):
            training.run(settings, tmp_path, data_dir=data_dir, verbose=0)
    # The row of an epoch that was not backed up is dropped, not counted twice. That epoch, the first
    # after the restart, is not evaluated.
    assert len(read_log(tmp_path / "log.csv")) == 3
    results = training.run(settings, tmp_path, data_dir=data_dir, verbose=0)
    assert [row["epoch"] for row in results["history"]] == [0, 1, 2, 3]
    assert ["val_accuracy" in row for row in results["history"]] == [True, True, False, True]
    assert results["test_accuracy"] == results["history"][3]["val_accuracy"]


@pytest.mark.any_backend
def test_without_max_lr_a_range_test_is_run_once(data_dir: Path, tmp_path: Path) -> None:
    settings = quick(max_lr=None, epochs=1, batch_size=8, num_train=80)
    results = training.run(settings, tmp_path, data_dir=data_dir, verbose=0)
    suggested = json.loads((tmp_path / "range_test.json").read_text())["lr"]
    assert suggested[0] <= results["settings"]["max_lr"] <= suggested[-1]
    (tmp_path / "results.json").unlink()
    again = training.run(settings, tmp_path, data_dir=data_dir, verbose=0)
    assert again["settings"] == results["settings"]


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


def test_a_backup_that_cannot_be_read_is_named(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "epoch-0001.weights.h5").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"epoch-0001\.weights\.h5 cannot be read"):
        training.run(quick(), tmp_path, data_dir=data_dir, verbose=0)


def test_other_settings_in_the_folder_are_named(data_dir: Path, tmp_path: Path) -> None:
    training.write_json(tmp_path / "settings.json", {**vars(quick()), "seed": 3})
    with pytest.raises(ValueError, match=r"seed=3.*Received: seed=0"):
        training.run(quick(), tmp_path, data_dir=data_dir)
    (tmp_path / "settings.json").write_text('{"torn')
    with pytest.raises(ValueError, match=r"settings\.json is torn"):
        training.run(quick(), tmp_path, data_dir=data_dir)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    import train_cifar10

    train_cifar10.claim(tmp_path, resume=False, overwrite=False)
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(SystemExit, match="something else than a training"):
            train_cifar10.claim(tmp_path, resume=resume, overwrite=overwrite)
    training.write_json(tmp_path / "settings.json", vars(quick()))
    with pytest.raises(SystemExit, match=r"--resume .*--overwrite"):
        train_cifar10.claim(tmp_path, resume=False, overwrite=False)
    train_cifar10.claim(tmp_path, resume=True, overwrite=False)
    train_cifar10.claim(tmp_path, resume=False, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "settings.json"]


def test_overwriting_deletes_a_training_once_another_can_begin(
    data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    training.write_json(tmp_path / "settings.json", vars(quick()))
    training.write_json(tmp_path / "results.json", {"test_accuracy": 0.5})
    with pytest.raises(ValueError, match="depth=21"):
        training.run(quick(depth=21), tmp_path, data_dir=data_dir, overwrite=True)
    with pytest.raises(FileNotFoundError):
        training.run(quick(), tmp_path, data_dir=tmp_path / "nowhere", overwrite=True)
    assert training.read_json(tmp_path / "results.json") == {"test_accuracy": 0.5}
    results = training.run(quick(epochs=1), tmp_path, data_dir=data_dir, overwrite=True, verbose=0)
    assert training.read_json(tmp_path / "results.json") == results
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_cannot_be_shared_by_devices_is_named(data_dir: Path) -> None:
    three = Devices(replicas=3, equal_shares=True)
    with pytest.raises(ValueError, match=r"multiple of the 3 devices.*batch_size=80"):
        training.prepare(quick(), three, data_dir)
    with pytest.raises(ValueError, match="50 test images cannot be shared equally by 3"):
        training.prepare(quick(batch_size=60), three, data_dir)
    with pytest.raises(ValueError, match=r"input='tf\.data'"):
        training.prepare(quick(batch_size=60, input="tf.data"), three, data_dir)


def test_only_one_cycle_has_a_range_test(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"policy='cosine'.*max_lr=None"):
        training.run(quick(policy="cosine", max_lr=None), tmp_path)
    with pytest.raises(ValueError, match="one_cycle, cosine, piecewise, constant"):
        training.run(quick(policy="multistep"), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ["--epochs", "0"],
        ["--max-lr", "-1"],
        ["--max-lr", "nan"],
        ["--resume", "--overwrite"],
        ["--strategy", "many"],
        ["--jit", "on", "--strategy", "mirrored"],
        ["--steps-per-execution", "2", "--strategy", "mirrored"],
        ["--precision", "float8"],
    ],
)
def test_bad_options_are_named(options: list[str], capsys: pytest.CaptureFixture) -> None:
    import train_cifar10

    with pytest.raises(SystemExit):
        train_cifar10.parse(options)
    assert options[0] in capsys.readouterr().err


def test_a_log_is_read_and_trimmed(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    assert read_log(path) == []
    trim_log(path, 0)
    path.write_text("epoch,loss\n0,2.5\n1,1.5\n2")
    assert read_log(path) == [{"epoch": 0, "loss": 2.5}, {"epoch": 1, "loss": 1.5}]
    trim_log(path, 1)
    assert path.read_text() == "epoch,loss\n0,2.5\n"
    trim_log(path, 0)
    assert path.read_text() == ""


def test_strategies_that_do_not_work_are_named_with_one_that_does() -> None:
    with pytest.raises(
        ValueError, match=r"MultiWorkerMirroredStrategy.*KERAS_BACKEND=jax.*data_para"
    ):
        set_up("multi_worker")
    on_jax = keras.backend.backend() == "jax"
    other = "mirrored" if on_jax else "data_parallel"
    with pytest.raises(ValueError, match=f"--strategy {other} is for KERAS_BACKEND="):
        set_up(other)
    with pytest.raises(ValueError, match="--coordinator"):
        set_up("data_parallel" if on_jax else "mirrored", num_processes=2)
    with pytest.raises(ValueError, match="--num-processes"):
        set_up("none", coordinator="localhost:1")
    with pytest.raises(ValueError, match="process_id=1"):
        set_up("none", process_id=1)
