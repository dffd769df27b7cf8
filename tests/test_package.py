"""The package as a whole: its public names, and that it needs no backend but the one in use."""

import inspect
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_onecycle
import tiny_cifar
from keras_onecycle._keras.backend import check_backend

# Run where TensorFlow is not found.
WITHOUT = """
import sys
import keras, keras_onecycle, pytest
from examples.cifar10 import data

folder, empty = sys.argv[1:]
(x, y), _ = data.load_arrays("cifar10", folder)
model = keras.Sequential([
    keras.Input((32, 32, 3), dtype="uint8"), data.RandomCropFlip(), data.standardization(),
    keras.layers.Flatten(), keras.layers.Dense(10),
])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(momentum=0.9), loss)
batches = data.ArrayBatches(x, y, 8)
keras_onecycle.lr_find(model, batches, num_steps=10, verbose=0)
model.fit(batches, verbose=0, callbacks=[keras_onecycle.OneCycle(0.1)])
for extra, call in {
    "tensorflow": lambda: data.cifar10(8, folder),
    "tensorflow,cifar": lambda: data.load_arrays("cifar10", empty),
}.items():
    with pytest.raises(ImportError, match=rf"pip install '\\.\\[{extra}\\]'"):
        call()
"""


def test_public_names_are_documented_as_keras_documents() -> None:
    for name in keras_onecycle.__all__:
        item = getattr(keras_onecycle, name)
        if inspect.isclass(item) or inspect.isfunction(item):
            for section in ("Example:", ">>>", "Args:"):
                assert section in item.__doc__, f"{name} has no {section}"


@pytest.mark.any_backend
def test_a_backend_that_does_not_train_is_refused_by_name() -> None:
    for name in ("tensorflow", "jax", "torch"):
        check_backend(name)
    with pytest.raises(ImportError, match=r"tensorflow, jax, torch.*Received: KERAS_BACKEND=numpy"):
        check_backend("numpy")


def test_without_tensorflow(tmp_path: Path) -> None:
    if keras.backend.backend() != "jax":
        pytest.skip("this is about JAX without TensorFlow")
    tiny_cifar.write(tmp_path)
    (tmp_path / "prepared" / "cifar10").mkdir(parents=True)
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path), str(tmp_path / "prepared")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
