"""Searches for the weight decay, dropout, momentum and batch size that suit a large learning rate."""

from keras_onecycle.search.batch_size import BatchSizeResult, find_batch_size
from keras_onecycle.search.cross_validation import cross_val_score
from keras_onecycle.search.grid_search import grid_search
from keras_onecycle.search.result import SearchResult, Setting

__all__ = [
    "BatchSizeResult",
    "SearchResult",
    "Setting",
    "cross_val_score",
    "find_batch_size",
    "grid_search",
]
