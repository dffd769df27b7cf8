"""The compiled train step of a model, dropped when what it was traced with changes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras


def trace_anew(model: keras.Model) -> None:
    """Drops the compiled train step, in which hyperparameters are constants, and makes another."""
    # JAX finds an old trace again as long as the function that it is of is alive.
    model.train_function = None
    # The method of the class: one of the instance waits for the next `fit`.
    type(model).make_train_function(model)


def set_steps_per_execution(model: keras.Model, steps_per_execution: int) -> None:
    """Changes how many steps the model runs at once."""
    if model.steps_per_execution == steps_per_execution:
        return
    model.steps_per_execution = steps_per_execution
    # They were made for the old number.
    model.train_function = None
    model.test_function = None
    model.predict_function = None


def run_single_steps(
    model: keras.Model,
    train_step: Callable[..., Any] | None = None,
    then: Callable[[Any], None] | None = None,
) -> None:
    """Makes the compiled train step run one step at once until it is traced anew.

    `model.steps_per_execution` stays as it is, so that there is nothing to put back.

    Args:
        model: A compiled `keras.Model`.
        train_step: Function to compile. Defaults to `None`: the model's `train_step`.
        then: Function that is given what each step returns. Defaults to `None`.
    """

    @contextmanager
    def single() -> Iterator[None]:
        steps_per_execution = model.steps_per_execution
        model.steps_per_execution = 1
        try:
            yield
        finally:
            model.steps_per_execution = steps_per_execution

    # JAX reads the number when the function is made, TensorFlow when it is traced or run.
    with single(), _attribute(model, "train_step", train_step or model.train_step):
        trace_anew(model)
    function = model.train_function

    def step(*arguments: Any) -> Any:
        with single():
            result = function(*arguments)
        if then is not None:
            then(result)
        return result

    model.train_function = step


@contextmanager
def _attribute(model: keras.Model, name: str, value: Any) -> Iterator[None]:
    """Sets an attribute of the object, past what Keras does when one is set."""
    attributes = vars(model)
    before = attributes.get(name)
    attributes[name] = value
    try:
        yield
    finally:
        attributes.pop(name, None)
        if before is not None:
            attributes[name] = before
