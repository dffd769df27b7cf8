"""A range test in one call: `fit` over the data as often as needed, and no trace in the model."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import keras

from keras_onecycle._arguments import check_compiled
from keras_onecycle._keras.compiled_step import set_steps_per_execution
from keras_onecycle._keras.data import build_from, stop_workers
from keras_onecycle._keras.snapshot import FitTraces
from keras_onecycle.range_tests._progress_bar import ProgressBar
from keras_onecycle.range_tests._range_test import RangeTest
from keras_onecycle.range_tests.result import RangeTestResult

# Arguments of `fit` that a range test sets itself.
_NOT_OF_A_TEST = ("epochs", "initial_epoch", "validation_split")


def run_range_test(
    test: RangeTest,
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    **fit_arguments: Any,
) -> RangeTestResult:
    """Runs `test` in `fit`, over the data as often as needed, and leaves no trace in the model."""
    check_compiled("model", model)
    if verbose not in (0, 1, 2, "auto"):
        raise ValueError(f"`verbose` must be 0, 1, 2 or 'auto'. Received: verbose={verbose!r}")
    once = hasattr(x, "__next__")
    if once:
        # Keras would go over the first batches of a generator again: one epoch, whatever its length.
        fit_arguments["steps_per_epoch"] = None
    # Before a batch is drawn to build the model.
    traces = FitTraces(model)
    x = build_from(model, x)
    test.set_model(model)
    test.check()
    try:
        # Before `fit`, which would otherwise count several batches for each step.
        set_steps_per_execution(model, 1)
        model.fit(
            x,
            y,
            epochs=1 if once else sys.maxsize,
            verbose=0,
            callbacks=[test, ProgressBar(test, verbose), *keras.tree.flatten(callbacks or [])],
            **fit_arguments,
        )
    finally:
        test.restore()
        stop_workers(x)
        traces.remove()
    return cast(RangeTestResult, test.result)


def split_arguments(
    find: Callable[..., Any], test: type[RangeTest], arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arguments of a range test and those of `fit`, of what the function `find` was given."""
    of_test = [name for name in inspect.signature(test).parameters if name != "arguments"]
    of_find = [name for name in inspect.signature(find).parameters if name != "arguments"]
    of_fit = [
        name
        for name in inspect.signature(keras.Model.fit).parameters
        if name not in ("self", *of_find, *of_test, *_NOT_OF_A_TEST)
    ]
    for name, value in arguments.items():
        if name not in (*of_test, *of_fit):
            raise TypeError(
                f"`{find.__name__}` has no argument `{name}`. It takes "
                f"{', '.join(dict.fromkeys(of_find + of_test))}, and of `fit` {', '.join(of_fit)}. "
                f"Received: {name}={value!r}"
            )
    return (
        {name: value for name, value in arguments.items() if name in of_test},
        {name: value for name, value in arguments.items() if name not in of_test},
    )
