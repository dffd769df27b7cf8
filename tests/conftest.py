"""Tests run on the backend that `KERAS_BACKEND` names, without a display and in any order."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest


@pytest.fixture(autouse=True)
def _fresh() -> None:
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()


@pytest.fixture
def tensorflow_only() -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is of the TensorFlow backend")


@pytest.fixture
def jax_only() -> None:
    if keras.backend.backend() != "jax":
        pytest.skip("this is about the JAX backend")
