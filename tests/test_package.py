"""The package as a whole: its public names, and that it needs no backend but the one in use."""

import inspect
import subprocess
import sys

import keras
import pytest

import keras_onecycle

WITHOUT = """
import sys
sys.modules["tensorflow"] = None  # As where it is not installed.
import numpy as np
import keras, keras_onecycle
x = np.random.rand(64, 4)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.SGD(momentum=0.9), loss="mse")
result = keras_onecycle.lr_find(model, x, x[:, :1], num_steps=10, verbose=0)
model.fit(x, x[:, :1], verbose=0, callbacks=[keras_onecycle.OneCycle(0.1)])
"""


def test_public_names_are_documented_as_keras_documents() -> None:
    for name in keras_onecycle.__all__:
        item = getattr(keras_onecycle, name)
        if inspect.isclass(item) or inspect.isfunction(item):
            for section in ("Example:", ">>>", "Args:"):
                assert section in item.__doc__, f"{name} has no {section}"


def test_without_tensorflow() -> None:
    if keras.backend.backend() != "jax":
        pytest.skip("this is about JAX without TensorFlow")
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
