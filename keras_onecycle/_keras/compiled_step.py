"""The compiled train step of a model, made anew when what it was traced with changes."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_onecycle._keras import backend


def compile_step(model: keras.Model, train_step: Callable[..., Any] | None = None) -> None:
    """Compiles the train step anew: hyperparameters are constants in it."""
    step = backend.after_data(train_step or model.train_step)
    attributes = vars(model)
    before = attributes.get("train_step")

    def unseen(*arguments: Any) -> Any:
        # For a function that JAX has seen it finds the old trace.
        return step(*arguments)

    attributes["train_step"] = unseen
    try:
        # The method of the class: one of the instance takes the schedule off at the next `fit`.
        type(model).make_train_function(model, force=True)
        if train_step is not None:
            backend.set_train_step(model, train_step)
    finally:
        attributes.pop("train_step", None)
        if before is not None:
            attributes["train_step"] = before


def compile_single_step(
    model: keras.Model, train_step: Callable[..., Any], after_step: Callable[[Any], None]
) -> None:
    """Compiles a train step that runs once in each call, whatever `model.steps_per_execution` is.

    The model's number stays as it is, so that nothing is left behind when `fit` is interrupted.
    """
    with _steps_per_execution(model, 1):
        compile_step(model, train_step)
    function, several = model.train_function, model.steps_per_execution > 1

    def train_function(*arguments: Any) -> Any:
        # JAX has read the number by now, TensorFlow reads it when the function is traced or run.
        with _steps_per_execution(model, 1) if several else contextlib.nullcontext():
            result = function(*arguments)
        after_step(result)
        return result

    model.train_function = train_function


@contextlib.contextmanager
def _steps_per_execution(model: keras.Model, number: int) -> Iterator[None]:
    before = model.steps_per_execution
    model.steps_per_execution = number
    try:
        yield
    finally:
        model.steps_per_execution = before


def set_steps_per_execution(model: keras.Model, steps_per_execution: int) -> None:
    """Changes how many steps the model runs at once, in all of its compiled functions."""
    if model.steps_per_execution != steps_per_execution:
        model.steps_per_execution = steps_per_execution
        model.train_function = model.test_function = model.predict_function = None
