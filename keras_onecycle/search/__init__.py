"""The rest of the recipe: weight decay, dropout, momentum and batch size that fit the learning rate."""

from keras_onecycle.search.batch_size import find_batch_size
from keras_onecycle.search.batch_size_result import BatchSizeResult
from keras_onecycle.search.grid_search import grid_search
from keras_onecycle.search.lr_scaling import scale_lr
from keras_onecycle.search.result import SearchResult, Setting
from keras_onecycle.search.weight_decay import weight_decay_find
from keras_onecycle.search.weight_decay_result import WeightDecayResult

__all__ = [
    "BatchSizeResult",
    "SearchResult",
    "Setting",
    "WeightDecayResult",
    "find_batch_size",
    "grid_search",
    "scale_lr",
    "weight_decay_find",
]
