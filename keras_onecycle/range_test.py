"""The LR range test in one call."""

import sys
from collections.abc import Sequence
from typing import Any

import keras

from keras_onecycle.compiled_step import set_steps_per_execution
from keras_onecycle.lr_finder import LRFinder
from keras_onecycle.range_test_result import RangeTestResult


def lr_find(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    num_steps: int = 100,
    mode: str = "exponential",
    stop_factor: float | None = 4.0,
    smoothing: float = 0.98,
    validation_data: Any = None,
    validation_freq: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    **fit_arguments: Any,
) -> RangeTestResult:
    """Runs the LR range test on a compiled model and leaves no trace in it.

    Weights, statistics of BatchNorm, seeds, optimizer, metrics and `stop_training` are afterwards as
    before, bit for bit, also after an exception or Ctrl-C. Host memory for that: one copy of the
    variables of model and optimizer. (On TensorFlow, a layer that calls `keras.random` without a
    `SeedGenerator` of its own draws from Keras's global one, which is no variable of the model and
    is not put back.)

    Example:

    >>> keras.utils.set_random_seed(0)
    >>> x = np.random.rand(64, 4)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(), loss="mse")
    >>> result = keras_onecycle.lr_find(model, x, x.sum(axis=1), batch_size=8, verbose=0)
    >>> bool(0.001 < result.suggest() < 1)
    True

    Args:
        model: A compiled `keras.Model`.
        x: What `fit` takes: arrays, a `tf.data.Dataset`, a `keras.utils.PyDataset`, which are gone
            over as often as needed, or a generator, which is gone over once.
        y: Targets, as `fit` takes them. Defaults to `None`.
        min_lr: Float, the first learning rate: above 0, or from 0 with `mode="linear"`. Defaults to
            `1e-6`.
        max_lr: Float above `min_lr`, the last learning rate. Defaults to `10.0`.
        num_steps: Integer, at least 2: optimizer updates from the first to the last. Defaults to
            `100`.
        mode: `"exponential"`, or `"linear"` as in the papers. Defaults to `"exponential"`.
        stop_factor: Float above 1, or `None`. The test stops when the smoothed loss is more than this
            times its lowest, or NaN; with `None`, never early. Once its lowest is 0 or less: when it
            has risen by `stop_factor - 1` times its first or its lowest, whichever is the larger in
            size. Defaults to `4.0`.
        smoothing: Float in [0, 1): the weight of the past in the bias-corrected moving average.
            Defaults to `0.98`.
        validation_data: Data to evaluate along the way, as in `LRFinder`. Defaults to `None`.
        validation_freq: Integer, at least 1: updates from one evaluation to the next. Defaults to
            `None`: so that there are about twenty.
        validation_steps: Integer, at least 1: batches in an evaluation. Defaults to `None`: all.
        validation_batch_size: Integer, at least 1, for validation data in arrays. Defaults to `None`:
            Keras's 32.
        verbose: 0, 1, 2 or `"auto"`, as in `fit`; the bar counts updates. Defaults to `"auto"`.
        callbacks: Further callbacks for `fit`. Defaults to `None`.
        **fit_arguments: What else `fit` takes: `batch_size`, `sample_weight`, `class_weight`,
            `shuffle`, `steps_per_epoch`.

    Returns:
        A `RangeTestResult`.

    Raises:
        TypeError: If an argument is of the wrong type or unknown to `fit`.
        ValueError: If an argument is out of its range, the model is not compiled, or its optimizer
            cannot follow a schedule.

    References:

    - [Smith, 2015, section 3.3](https://arxiv.org/abs/1506.01186)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a `keras.Model`. Received: model={model!r}")
    if not model.compiled:
        raise ValueError(
            "`model` is not compiled. Call `model.compile(optimizer=..., loss=...)` first. "
            f"Received: model={model!r}"
        )
    if model.optimizer is None:
        raise ValueError(
            "`model` was compiled without an optimizer, and has no learning rate to test. Call "
            "`model.compile(optimizer=..., loss=...)`. Received: optimizer=None"
        )
    if x is None:
        raise ValueError("`x` must be the training data, as `fit` takes it. Received: x=None")
    if verbose not in (0, 1, 2, "auto"):
        raise ValueError(f"`verbose` must be 0, 1, 2 or 'auto'. Received: verbose={verbose!r}")
    if callbacks is not None and not (
        isinstance(callbacks, (list, tuple))
        and all(isinstance(callback, keras.callbacks.Callback) for callback in callbacks)
    ):
        raise TypeError(
            "`callbacks` must be a list of `keras.callbacks.Callback`. "
            f"Received: callbacks={callbacks!r}"
        )
    for name in ("epochs", "initial_epoch", "validation_split"):
        if name in fit_arguments:
            raise ValueError(
                f"`{name}` is not for a range test, whose length is `num_steps` updates and whose "
                f"evaluations are on `validation_data`. Received: {name}={fit_arguments[name]!r}"
            )
    finder = LRFinder(
        min_lr=min_lr,
        max_lr=max_lr,
        num_steps=num_steps,
        mode=mode,
        stop_factor=stop_factor,
        smoothing=smoothing,
        validation_data=validation_data,
        validation_freq=validation_freq,
        validation_steps=validation_steps,
        validation_batch_size=validation_batch_size,
    )
    if verbose:
        finder._progress = keras.utils.Progbar(
            num_steps,
            verbose=1 if verbose == "auto" else int(verbose),
            stateful_metrics=["learning_rate", "loss"],
            unit_name="update",
        )
    stop_training = model.stop_training
    history = vars(model).get("history")
    steps_per_execution = model.steps_per_execution
    _build(model, x)
    # Keras would go over the first batches of a generator again, and over nothing else, for ever.
    once = hasattr(x, "__next__") and fit_arguments.get("steps_per_epoch") is None
    try:
        # Before `fit`, which else would count several batches for each step.
        set_steps_per_execution(model, 1)
        model.fit(
            x,
            y,
            epochs=1 if once else sys.maxsize,
            verbose=0,
            callbacks=[finder, *(callbacks or [])],
            **fit_arguments,
        )
    finally:
        finder.restore()
        set_steps_per_execution(model, steps_per_execution)
        model.stop_training = stop_training
        vars(model).pop("history", None)
        if history is not None:
            model.history = history
    return finder.result


def _build(model: keras.Model, x: Any) -> None:
    """Gives an unbuilt model its variables, without running it, so that they can be copied."""
    if model.built:
        return
    if hasattr(x, "element_spec"):
        x = x.element_spec
        x = x[0] if isinstance(x, tuple) else x
    elif isinstance(x, keras.utils.PyDataset):
        x = x[0]
        x = x[0] if isinstance(x, tuple) else x
    # A `tf.TensorShape` may say that not even the number of dimensions is known.
    shapes = [getattr(leaf, "shape", None) for leaf in keras.tree.flatten(x)]
    if any(shape is None or getattr(shape, "rank", 0) is None for shape in shapes):
        raise ValueError(
            "The model is not built, and the shapes of this data are not known before it is read. Give "
            "the model a `keras.Input`, or call `model.build(input_shape)` first."
        )
    batch = keras.tree.map_structure(
        lambda leaf: keras.KerasTensor(
            (None, *leaf.shape[1:]), keras.backend.standardize_dtype(leaf.dtype)
        ),
        x,
    )
    try:
        model(batch)
    except Exception as error:
        raise ValueError(
            "The model is not built, and calling it on data of these shapes does not build it. Call it "
            "on a batch first; where it has no `call`, build its parts and set `model.built = True`. "
            f"Received: x of {batch!r}"
        ) from error
