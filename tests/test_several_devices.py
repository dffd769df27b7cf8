"""ResNets and the examples on several devices end where one device does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import devices
import reference
import tiny_cifar
import training
from keras_onecycle import OneCycle, lr_find
from keras_onecycle.models import resnet

HERE = Path(__file__).parent


def trained(scope: object, synchronized: bool) -> keras.Model:
    x, y = tiny_cifar.images(64, seed=3)
    x = (x / 255 - 0.5).astype("float32")
    with scope:
        keras.utils.set_random_seed(5)
        model = resnet(8, input_shape=(8, 8, 3), synchronized=synchronized)
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
    small = x[:, ::4, ::4]
    lr_find(model, small, y, batch_size=16, num_steps=5, max_lr=0.1, shuffle=False, verbose=0)
    model.fit(small, y, batch_size=16, shuffle=False, verbose=0, callbacks=[OneCycle(0.001)])
    return model


def test_two_replicas_train_a_resnet_as_one_does() -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    from test_distribution import two_replicas

    one = trained(devices.Devices().scope, synchronized=False)
    two = trained(two_replicas().scope(), synchronized=True)
    reference.assert_same_weights(two, one, rtol=1e-5)


def test_a_training_under_mirrored_strategy_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    from test_distribution import two_replicas
    from test_train_cifar10 import interrupt_at, quick

    data_dir = tiny_cifar.write(tmp_path / "data")

    def run() -> dict:
        mirrored = devices.Devices(two_replicas().scope(), replicas=2)
        out = tmp_path / "out"
        return training.run(quick(), out, mirrored, data_dir=data_dir, verbose=0)

    with monkeypatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert [row["epoch"] for row in run()["history"]] == [0, 1]


def test_mirrored_takes_all_devices_there_are() -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    # The tests have two logical CPU devices.
    assert devices.set_up("mirrored").replicas == 2


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def start(out: Path, port: int, count: int, number: int) -> subprocess.Popen:
    paths = [str(HERE), str(HERE.parent), str(HERE.parent / "examples")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "XLA_FLAGS": ""}
    script = HERE / "process_of_several.py"
    return subprocess.Popen(
        [sys.executable, str(script), str(out), f"127.0.0.1:{port}", str(count), str(number)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    if keras.backend.backend() != "jax":
        pytest.skip("several processes train on JAX")
    port = free_port()
    started = [
        start(tmp_path / "one.npz", port, 1, 0),
        *(start(tmp_path / f"two{number}.npz", port, 2, number) for number in (0, 1)),
    ]
    for process in started:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
    with np.load(tmp_path / "one.npz") as one:
        for name in ("two0.npz", "two1.npz"):
            with np.load(tmp_path / name) as two:
                for got, wanted in zip(two.values(), one.values(), strict=True):
                    np.testing.assert_allclose(
                        got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max()
                    )
