"""The rest of the recipe: weight decay, dropout, momentum and batch size that fit the learning rate."""

from keras_onecycle.search.grid_search import grid_search
from keras_onecycle.search.search_result import SearchResult, Setting
from keras_onecycle.search.weight_decay import weight_decay_find
from keras_onecycle.search.weight_decay_result import WeightDecayResult

__all__ = ["SearchResult", "Setting", "WeightDecayResult", "grid_search", "weight_decay_find"]
