"""The 1cycle policy, cyclical momentum and the LR range test for Keras 3."""

from keras_onecycle import search, suggestion
from keras_onecycle._version import __version__
from keras_onecycle.one_cycle import OneCycle
from keras_onecycle.range_tests import (
    LRFinder,
    RangeTestResult,
    WeightDecayResult,
    lr_find,
    momentum_find,
    weight_decay_find,
)
from keras_onecycle.scheduler import HyperparameterScheduler
from keras_onecycle.schedules import OneCycleSchedule

__all__ = [
    "HyperparameterScheduler",
    "LRFinder",
    "OneCycle",
    "OneCycleSchedule",
    "RangeTestResult",
    "WeightDecayResult",
    "__version__",
    "lr_find",
    "momentum_find",
    "search",
    "suggestion",
    "weight_decay_find",
]
