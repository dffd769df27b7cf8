"""What the doctests of the package find imported."""

import keras
import numpy as np
import pytest

import keras_onecycle


@pytest.fixture(autouse=True)
def _names(doctest_namespace: dict) -> None:
    doctest_namespace |= {"keras": keras, "np": np, "keras_onecycle": keras_onecycle}
