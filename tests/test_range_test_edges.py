"""Range tests of unusual models, data and callbacks: what trains is tested, and nothing is left behind."""

import random
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest

import reference
from keras_onecycle import LRFinder, RangeTestResult
from keras_onecycle import lr_find as find

# The range test alone: the short cycles after it are in test_short_cycles.
lr_find = partial(find, cycle_steps=0)

X, Y = reference.data(64)
TEST: dict[str, Any] = {"num_steps": 12, "max_lr": 0.1, "batch_size": 8, "verbose": 0}
TENSORFLOW = keras.backend.backend() == "tensorflow"
JAX = keras.backend.backend() == "jax"


def compiled(model: keras.Model | None = None, **arguments: Any) -> keras.Model:
    model = model or reference.build()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), **{"loss": "mse", **arguments})
    return model


# Results


def test_a_metric_with_a_value_for_each_class_is_kept_and_saved(tmp_path: Any) -> None:
    classes = np.eye(3, dtype="float32")[np.arange(64) % 3]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    compiled(model, loss="categorical_crossentropy", metrics=[keras.metrics.F1Score()])
    result = lr_find(model, X, classes, validation_data=(X, classes), validation_freq=4, **TEST)
    assert result.val_metrics["f1_score"].shape == (3, 3)
    result.plot()
    result.save(tmp_path / "range.json")
    loaded = RangeTestResult.load(tmp_path / "range.json")
    np.testing.assert_array_equal(loaded.val_metrics["f1_score"], result.val_metrics["f1_score"])


class Log(keras.metrics.MeanAbsoluteError):
    """Keeps the value of each epoch, which it reads before it resets itself."""

    def __init__(self) -> None:
        super().__init__(name="log")
        self.epochs: list[float] = []

    def reset_state(self) -> None:
        if float(self.count) > 0:
            self.epochs.append(float(self.result()))
        super().reset_state()


def test_a_metric_that_reads_its_value_to_reset_itself() -> None:
    arguments = {**TEST, "shuffle": False}
    wanted = lr_find(compiled(), X, Y, **arguments)
    model = compiled(metrics=[Log()])
    model.fit(X, Y, batch_size=8, verbose=0)
    model.set_weights(reference.build().get_weights())
    for momentum in model.optimizer.momentums:
        momentum.assign(0 * momentum)
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]
    np.testing.assert_allclose(lr_find(model, X, Y, **arguments).loss, wanted.loss, rtol=1e-5)

    # An error inside the first step, after which JAX has no value to read.
    batches = (batch for batch in [(X[:8, :3], Y[:8])])
    with pytest.raises(Exception, match=r"shape|axis|incompatible"):
        lr_find(model, batches, num_steps=12, max_lr=0.1, verbose=0)
    for variable, kept in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), kept)


class TwoUpdates(keras.Sequential):
    """Makes two updates in each step, as the loop of a WGAN's critic does."""

    def train_step(self, *state_and_data: Any) -> Any:
        if not JAX:
            super().train_step(*state_and_data)
            self.reset_metrics()
            return super().train_step(*state_and_data)
        state, data = state_and_data
        _, state = super().train_step(state, data)
        return super().train_step(state, data)


def test_each_points_rate_is_that_of_its_update() -> None:
    model = compiled(TwoUpdates([keras.Input((4,)), *reference.build().layers]))
    result = lr_find(model, X, Y, **TEST)
    np.testing.assert_allclose(result.lr, np.geomspace(1e-6, 0.1, 12)[::2], rtol=1e-5)


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_a_loss_of_one_number_in_any_shape(shape: tuple) -> None:
    class Shaped(keras.Sequential):
        def train_step(self, *state_and_data: Any) -> Any:
            got = super().train_step(*state_and_data)
            logs = got[0] if JAX else got
            logs["loss"] = keras.ops.reshape(logs["loss"], shape)
            return (logs, got[1]) if JAX else logs

    model = compiled(Shaped([keras.Input((4,)), keras.layers.Dense(1)]))
    assert len(lr_find(model, X, Y, **TEST).loss) == 12


class LossOfItsOwn(keras.Sequential):
    """Returns its loss from the `train_step`, and leaves Keras's metric of it alone."""

    def train_step(self, *state_and_data: Any) -> Any:
        got = super().train_step(*state_and_data)
        if JAX:
            (*_, metrics), _ = state_and_data
            return got[0], (*got[1][:-1], metrics)
        self.reset_metrics()
        return got


def test_a_train_step_returns_its_loss_itself() -> None:
    result = lr_find(
        compiled(LossOfItsOwn([keras.Input((4,)), *reference.build().layers])), X, Y, **TEST
    )
    wanted = lr_find(compiled(), X, Y, **TEST)
    np.testing.assert_allclose(result.loss, wanted.loss, rtol=1e-6)
    np.testing.assert_allclose(result.smoothed_loss, wanted.smoothed_loss, rtol=1e-6)


def test_a_last_batch_of_one_sample_counts_as_one_sample() -> None:
    result = lr_find(compiled(), X[:33], Y[:33], **{**TEST, "batch_size": 16, "smoothing": 0.9})
    weights = np.resize([16, 16, 1], 12) * 0.9 ** np.arange(12)[::-1]
    np.testing.assert_allclose(
        result.smoothed_loss[-1], np.average(result.loss, weights=weights), rtol=1e-6
    )


def test_a_test_that_ends_in_its_first_tenth_says_at_which_rate_and_why() -> None:
    y = Y.copy()
    y[:8] = np.nan
    with pytest.warns(UserWarning, match=r"1 of 100 updates at learning_rate=1e-06: .* is NaN"):
        result = lr_find(compiled(), X, y, batch_size=8, shuffle=False, verbose=0)
    with pytest.raises(ValueError, match="if no loss was ever finite"):
        result.suggest()


# Data


class OfUnknownRank(keras.Model):
    """A model that trains where not even the rank of the data is known beforehand."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.dense(keras.ops.reshape(x, (-1, 4)))


def test_a_model_that_is_not_built_is_built_from_a_first_batch_which_is_not_lost() -> None:
    def model() -> keras.Model:
        keras.utils.set_random_seed(3)
        return compiled(keras.Sequential([keras.layers.Dense(1)]))

    wanted = lr_find(model(), X, Y, shuffle=False, **TEST)
    batches = reference.split(X, Y, 8) * 2
    arguments = {name: TEST[name] for name in ("num_steps", "max_lr", "verbose")}
    keras.utils.set_random_seed(3)
    got = lr_find(model(), (batch for batch in batches), **arguments)
    np.testing.assert_allclose(got.loss, wanted.loss, rtol=1e-5)
    if TENSORFLOW:
        import tensorflow as tf

        signature = tf.TensorSpec(None), tf.TensorSpec((None, 1))
        no_rank = tf.data.Dataset.from_generator(lambda: batches, output_signature=signature)
        keras.utils.set_random_seed(3)
        shaped = compiled(OfUnknownRank())
        got = lr_find(shaped, no_rank, **arguments)
        np.testing.assert_allclose(got.loss, wanted.loss, rtol=1e-5)


class OfOptionalInputs(keras.Model):
    """A model one of whose inputs may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.dense(x["a"])


@pytest.mark.skipif(not TENSORFLOW, reason="Keras takes None in a batch on TensorFlow")
def test_inputs_that_are_left_out() -> None:
    batches = [({"a": x, "b": None}, y) for x, y in reference.split(X, Y, 8)] * 2
    arguments = {name: TEST[name] for name in ("num_steps", "max_lr", "verbose")}
    result = lr_find(compiled(OfOptionalInputs()), (batch for batch in batches), **arguments)
    assert len(result.loss) == 12


def test_a_generator_is_gone_over_once_whatever_its_epochs() -> None:
    seen: list[int] = []

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, batch in enumerate(reference.split(X, Y, 8)):
            seen.append(number)
            yield batch

    with pytest.warns(UserWarning, match=r"8 of 12 updates.*generator must itself"):
        lr_find(compiled(), batches(), steps_per_epoch=3, num_steps=12, verbose=0)
    assert seen == list(range(8))


class Batches(keras.utils.PyDataset):
    """Data that shuffles itself by the global random state, with workers."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return X[index % 8 * 8 :][:8], Y[index % 8 * 8 :][:8]


def test_workers_end_with_the_test() -> None:
    before = threading.active_count()
    lr_find(compiled(), Batches(workers=2), num_steps=12, max_lr=0.1, verbose=0)
    until = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert not [thread for thread in threading.enumerate() if "Worker" in thread.name]


def test_global_random_states_are_put_back() -> None:
    model = compiled()
    random.seed(1)
    np.random.seed(1)
    wanted = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(1)
    lr_find(model, X, Y, **TEST)
    lr_find(model, Batches(), num_steps=12, max_lr=0.1, verbose=0, shuffle=True)
    assert (random.random(), np.random.rand()) == wanted


# Traces


@pytest.mark.parametrize("of_ones_own", [False, True])
def test_callbacks_that_set_weights_when_training_ends_leave_no_trace(of_ones_own: bool) -> None:
    class SetWeights(keras.callbacks.Callback):
        def on_train_end(self, logs: dict | None = None) -> None:
            self.model.set_weights([w + 1 for w in self.model.get_weights()])

    model = compiled()
    before = model.get_weights()
    if of_ones_own:
        finder = LRFinder(num_steps=4, max_lr=0.1)
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[finder, SetWeights()])
    else:
        lr_find(model, X, Y, callbacks=[SetWeights()], **TEST)
    for got, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, kept)


class CountingLoss(keras.losses.Loss):
    """A loss with a variable."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = keras.Variable(0.0, trainable=False)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if TENSORFLOW:
            self.calls.assign_add(1.0)
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)


class WithMore(keras.Sequential):
    """A model that holds a second optimizer and other variables."""

    def __init__(self, layers: list) -> None:
        super().__init__(layers)
        self.other = keras.optimizers.Adam(0.01)
        self.others = {"a": [keras.Variable(1.0, trainable=False, name="extra")]}

    def train_step(self, *state_and_data: Any) -> Any:
        got = super().train_step(*state_and_data)
        if TENSORFLOW:
            self.others["a"][0].assign_add(1.0)
            self.other.apply([keras.ops.ones_like(v) for v in self.trainable_variables[:1]])
        return got


def test_states_that_the_model_does_not_list_are_put_back() -> None:
    model = WithMore([keras.Input((4,)), *reference.build().layers])
    model.other.build(model.trainable_variables[:1])
    loss = CountingLoss()
    compiled(model, loss=loss)
    held = [loss.calls, model.others["a"][0], *model.other.variables]
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in held]
    lr_find(model, X, Y, **TEST)
    for variable, kept in zip(held, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), kept)


def test_the_state_of_a_stateful_rnn_is_put_back() -> None:
    sequences = np.stack([X, X], axis=1)
    model = keras.Sequential(
        [
            keras.Input((2, 4), batch_size=8),
            keras.layers.GRU(3, stateful=True),
            keras.layers.Dense(1),
        ]
    )
    compiled(model)
    lr_find(model, sequences, Y, **TEST)
    for state in keras.tree.flatten(model.layers[0].states):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(state), 0)


# Messages


def test_everything_frozen_is_named() -> None:
    model = reference.build()
    model.trainable = False
    for untrainable in (model, keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])):
        with pytest.raises(ValueError, match="every layer is frozen, or none has weights"):
            lr_find(compiled(untrainable), X, Y, **TEST)


def test_a_result_without_points_says_so() -> None:
    empty = np.empty(0)
    with pytest.raises(ValueError, match="no points to draw"):
        RangeTestResult(lr=empty, loss=empty, smoothed_loss=empty).plot()
