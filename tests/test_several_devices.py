"""The CIFAR-10 example on several devices, and in several processes, ends where one device does."""

import os
import socket
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import keras
import numpy as np
import pytest

import process_of_several
import reference
import tiny_cifar
from examples.cifar10 import devices, training
from examples.cifar10.settings import Settings
from keras_onecycle import OneCycle
from test_distribution import two_replicas

HERE = Path(__file__).parent


on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)


@on_tensorflow
def test_two_replicas_normalize_as_one_device_does() -> None:
    x, y = reference.data(96)

    def trained(scope: AbstractContextManager, synchronized: bool) -> keras.Model:
        with scope:
            model = reference.build(keras.layers.BatchNormalization(synchronized=synchronized))
            model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
        arguments = {"batch_size": 16, "shuffle": False, "verbose": 0}
        model.fit(x, y, callbacks=[OneCycle(0.02)], **arguments)
        return model

    one = trained(nullcontext(), synchronized=False)
    two = trained(two_replicas().scope(), synchronized=True)
    reference.assert_same_weights(two, one, rtol=1e-5)


@on_tensorflow
def test_a_training_goes_on_under_mirrored_strategy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tiny_cifar.write(tmp_path / "data")
    settings = Settings(depth=8, epochs=2, batch_size=80, max_lr=0.05, precision="float32")
    monkeypatch.setattr(training, "resnet", tiny_cifar.network)

    def run(on: devices.Devices) -> dict:
        return training.run(settings, tmp_path / "out", on, data_dir=data_dir, verbose=0)

    with monkeypatch.context() as patch:
        tiny_cifar.interrupt_at(1, patch)
        with pytest.raises(KeyboardInterrupt):
            run(devices.Devices())
    history = run(devices.Devices(two_replicas().scope(), replicas=2))["history"]
    wanted = [reference.one_cycle(step, 4, max_lr=0.05) for step in (1, 3)]
    got = [(row["learning_rate"], row["momentum"]) for row in history]
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


@on_tensorflow
def test_mirrored_takes_all_devices_there_are() -> None:
    # The tests have two logical CPU devices.
    assert devices.set_up("mirrored").replicas == 2


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="several processes train on JAX")
def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    paths = [HERE, HERE.parent]
    environment = {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    started = [
        subprocess.Popen(
            [sys.executable, process_of_several.__file__, out, address, "2", str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )
        for number, out in enumerate((tmp_path / "0.npz", tmp_path / "1.npz"))
    ]
    wanted = process_of_several.train()
    for number, process in enumerate(started):
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
        with np.load(tmp_path / f"{number}.npz") as arrays:
            for got, one in zip(arrays.values(), wanted, strict=True):
                np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())
