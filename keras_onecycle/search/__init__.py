"""The rest of the recipe: weight decay, dropout, momentum and batch size that fit the learning rate."""

from keras_onecycle.search.grid_search import grid_search
from keras_onecycle.search.search_result import SearchResult, Setting

__all__ = ["SearchResult", "Setting", "grid_search"]
