"""Searches for the weight decay, dropout, momentum and batch size that suit a large learning rate."""

from keras_onecycle.search.batch_size import BatchSizeResult, find_batch_size
from keras_onecycle.search.grid_search import grid_search
from keras_onecycle.search.result import SearchResult, Setting
from keras_onecycle.search.weight_decay import WeightDecayResult, weight_decay_find

__all__ = [
    "BatchSizeResult",
    "SearchResult",
    "Setting",
    "WeightDecayResult",
    "find_batch_size",
    "grid_search",
    "weight_decay_find",
]
