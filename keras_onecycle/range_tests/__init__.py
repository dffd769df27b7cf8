"""Range tests of the learning rate and of momentum, and what is read off their curves."""

from keras_onecycle.range_tests import suggestion
from keras_onecycle.range_tests.learning_rate import LRFinder, lr_find
from keras_onecycle.range_tests.momentum import momentum_find
from keras_onecycle.range_tests.result import RangeTestResult
from keras_onecycle.range_tests.weight_decay import WeightDecayResult, weight_decay_find

__all__ = [
    "LRFinder",
    "RangeTestResult",
    "WeightDecayResult",
    "lr_find",
    "momentum_find",
    "suggestion",
    "weight_decay_find",
]
