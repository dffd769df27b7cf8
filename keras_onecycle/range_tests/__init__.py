"""Range tests of the learning rate, of momentum and of weight decay."""

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
    "weight_decay_find",
]
