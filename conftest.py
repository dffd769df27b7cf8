"""The doctests: what they find imported, and that one backend runs them."""

import keras
import numpy as np
import pytest

import keras_onecycle
from examples.cifar10 import data


@pytest.fixture(autouse=True)
def _names(doctest_namespace: dict) -> None:
    doctest_namespace |= {"keras": keras, "np": np, "keras_onecycle": keras_onecycle, "data": data}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker("any_backend")
