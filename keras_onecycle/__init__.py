"""The 1cycle policy, cyclical momentum and the LR range test for Keras 3."""

from keras_onecycle import data, models, search, suggestion
from keras_onecycle.hyperparameter_scheduler import HyperparameterScheduler
from keras_onecycle.lr_finder import LRFinder, lr_find
from keras_onecycle.momentum_finder import momentum_find
from keras_onecycle.one_cycle import OneCycle
from keras_onecycle.range_test_result import RangeTestResult
from keras_onecycle.schedules import OneCycleSchedule
from keras_onecycle.version import __version__

__all__ = [
    "HyperparameterScheduler",
    "LRFinder",
    "OneCycle",
    "OneCycleSchedule",
    "RangeTestResult",
    "__version__",
    "data",
    "lr_find",
    "models",
    "momentum_find",
    "search",
    "suggestion",
]
