"""Tests run on the backend that `KERAS_BACKEND` names, without a display and in any order."""

import os
import sys
from importlib.util import find_spec
from typing import Any

# What the tests import, their child processes find too.
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Two devices, for the tests of training on several; one test process uses few threads anyway. And
# without optimization: XLA compiles in half the time, which a few steps do not make up for.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
)

import keras
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )

if find_spec("tensorflow"):
    import tensorflow as tf

    # When an iterator is destroyed, the thread that tunes its pipeline can miss that it has to end,
    # and is then waited for up to a minute.
    _untuned = tf.data.Options()
    _untuned.autotune.enabled = False
    _iterate = tf.data.Dataset.__iter__
    tf.data.Dataset.__iter__ = lambda dataset: _iterate(dataset.with_options(_untuned))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    try:
        return (yield)
    except ValueError as error:
        if "must be 1 with the PyTorch backend" in str(error):
            pytest.skip("Keras has no `steps_per_execution` on PyTorch")
        raise


@pytest.fixture(autouse=True)
def _fresh() -> None:
    keras.utils.set_random_seed(0)
    # Without a collection of garbage, which takes longer than most tests.
    keras.utils.clear_session(free_memory=False)
