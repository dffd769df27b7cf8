"""The compiled train step of a model, dropped when what it was traced with changes."""

import keras


def trace_anew(model: keras.Model) -> None:
    """Drops the compiled train step, in which hyperparameters are constants, and makes another."""
    # JAX finds an old trace again as long as the function that it is of is alive.
    model.train_function = None
    model.make_train_function()


def set_steps_per_execution(model: keras.Model, steps_per_execution: int) -> None:
    """Changes how many steps the model runs at once."""
    if model.steps_per_execution == steps_per_execution:
        return
    model.steps_per_execution = steps_per_execution
    # They were made for the old number.
    model.train_function = None
    model.test_function = None
