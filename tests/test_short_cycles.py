"""The short cycles of `lr_find`: each is a cycle of its own, none leaves a trace, and what they suggest."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from keras_onecycle import OneCycle, RangeTestResult, lr_find
from keras_onecycle._keras.data import build_from
from keras_onecycle.range_tests._short_cycles_rule import Ladder, below_best

OPTIMIZERS: dict[str, Callable[[], keras.Optimizer]] = {
    "SGD": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "SGD without momentum": lambda: keras.optimizers.SGD(0.01),
    "AdamW": lambda: keras.optimizers.AdamW(0.01),
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
}
FIND = {"batch_size": 8, "num_steps": 100, "verbose": 0}


def compiled(optimizer: keras.Optimizer, *layers: keras.layers.Layer) -> keras.Model:
    model = reference.build(*layers)
    model.compile(optimizer, loss="mse")
    return model


def state(model: keras.Model) -> list[np.ndarray]:
    groups = (model.variables, model.optimizer.variables, model.metrics_variables)
    return [np.array(keras.ops.convert_to_numpy(v)) for group in groups for v in group]


class Losses(keras.callbacks.Callback):
    """The loss of each batch of an epoch, of which Keras logs the mean so far."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = [0.0]

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.sums.append((batch + 1) * float(logs["loss"]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_is_a_cycle_from_the_same_weights_and_leaves_no_trace(name: str) -> None:
    model = compiled(OPTIMIZERS[name](), keras.layers.BatchNormalization())
    accumulated = model.optimizer.gradient_accumulation_steps or 1
    # One sample, over and over: whatever is drawn, it is the same.
    x, y = (np.repeat(part[:1], 8 * 20 * accumulated, axis=0) for part in reference.data(8))
    model.optimizer.build(model.trainable_variables)
    before = state(model)
    result = lr_find(model, x, y, cycle_steps=20, **FIND)
    assert len(result.cycle_lr) >= 2
    assert result.cycle_lr[0] == result.suggest("edge")
    for got, kept in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(got, kept)
    # The second begins where the first did; the others would show no more.
    for max_lr, loss in list(zip(result.cycle_lr, result.cycle_loss, strict=True))[:2]:
        for variable, value in zip(
            [*model.variables, *model.optimizer.variables], before, strict=False
        ):
            variable.assign(value)
        losses = Losses()
        cycle = OneCycle(
            max_lr, total_steps=20, cycle_momentum=name != "SGD without momentum", start_epoch=0
        )
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[cycle, losses])
        wanted = np.mean(np.diff(losses.sums)[-8 * accumulated :])
        if np.isfinite(wanted):
            np.testing.assert_allclose(loss, wanted, rtol=1e-2, atol=1e-6)
        else:
            assert loss == np.inf


def test_what_is_not_built_stays_so_and_its_cycles_are_those_of_what_is() -> None:
    x, y = (np.repeat(part[:1], 8 * 20, axis=0) for part in reference.data(8))
    results = []
    for built in (True, False):
        model = reference.build()
        model.compile(keras.optimizers.Nadam(0.01), "mse", metrics=["mae"])
        if built:
            model.optimizer.build(model.trainable_variables)
        results.append(lr_find(model, x, y, cycle_steps=20, **FIND))
        assert model.optimizer.built == built
    assert len(results[0].cycle_lr) >= 2
    np.testing.assert_allclose(results[1].cycle_lr, results[0].cycle_lr)
    np.testing.assert_allclose(results[1].cycle_loss, results[0].cycle_loss, rtol=1e-5)


def test_updates_and_compilations() -> None:
    x, y = reference.data(64)
    model = compiled(OPTIMIZERS["SGD"]())
    traces, updates = [], []
    call = model.call

    def counted(*arguments: Any, **named: Any) -> Any:
        traces.append(None)
        return call(*arguments, **named)

    model.call = counted
    counter = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: updates.append(None)
    )
    lr_find(model, x, y, batch_size=8, verbose=0, cycle_steps=0, callbacks=[counter])
    before = len(traces)
    assert before
    assert len(updates) <= 100
    traces.clear()
    updates.clear()
    result = lr_find(model, x, y, batch_size=8, verbose=0, callbacks=[counter])
    # One that diverges ends at once.
    finite = np.isfinite(result.cycle_loss).sum()
    in_cycles = len(updates) - len(result.loss)
    assert 50 * finite <= in_cycles <= 50 * len(result.cycle_lr) <= 300 - len(result.loss)
    if keras.backend.backend() != "torch":
        assert len(traces) <= 2 * before


class Interrupt(keras.callbacks.Callback):
    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch, self.seen = batch, 0

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.seen += 1
        if self.seen == self.batch:
            raise KeyboardInterrupt


def test_no_trace_after_an_interruption_in_the_second_cycle() -> None:
    x, y = reference.data(640)
    model = compiled(OPTIMIZERS["AdamW"](), keras.layers.Dropout(0.3, seed=3))
    model.fit(x, y, batch_size=8, verbose=0)
    before = state(model)
    arguments = FIND | {"batch_size": 32, "cycle_steps": 20, "stop_factor": None}
    with pytest.raises(KeyboardInterrupt):
        lr_find(model, x, y, callbacks=[Interrupt(100 + 20 + 7)], **arguments)
    for got, kept in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(got, kept)
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.01)
    model.fit(x, y, batch_size=8, verbose=0)


class Batches(keras.utils.PyDataset):
    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        super().__init__()
        self.x, self.y = x, y

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.x[index * 8 :][:8], self.y[index * 8 :][:8]


@pytest.mark.any_backend
def test_other_data() -> None:
    x, y = reference.data(64)

    def forever() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            yield from reference.split(x, y, 8)

    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    for data in (Batches(x, y), forever(), dataset):
        result = lr_find(
            compiled(OPTIMIZERS["SGD"]()), data, cycle_steps=16, num_steps=100, verbose=0
        )
        assert len(result.cycle_lr) >= 2
        assert 1e-4 < result.suggest() < 1


class Notes(keras.Model):
    """Notes the first number of each batch that it is trained on; the loss of the 94th is NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.seen = keras.layers.Dense(1), []

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.seen.append(int(keras.ops.convert_to_numpy(x)[0, 0]))
        return self.dense(x / 64)

    def compute_loss(self, *arguments: Any, **named: Any) -> Any:
        loss = super().compute_loss(*arguments, **named)
        return loss * (np.nan if len(self.seen) == 94 else 1.0)


@pytest.mark.parametrize("kind", ["arrays", "dataset", "PyDataset", "endless"])
def test_each_gets_the_same_batches_even_after_one_that_diverged(kind: str) -> None:
    x, (_, y) = np.arange(64.0, dtype="float32")[:, None], reference.data(64)
    data: Any = (x, y)
    arguments = {"batch_size": 8} if kind == "arrays" else {}
    if kind == "PyDataset":
        data, arguments = (Batches(x, y),), {"steps_per_epoch": 8}
    elif kind != "arrays":
        tf = pytest.importorskip("tensorflow")
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64, seed=1).batch(8)
        data = (dataset.repeat() if kind == "endless" else dataset,)
        arguments = {"steps_per_epoch": 6} if kind == "endless" else {}
    model = Notes()
    model(x[:1])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse", run_eagerly=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*ran out of data")
        rates = {"max_lr": 0.3, "num_steps": 80, "stop_factor": None, "cycle_steps": 10}
        result = lr_find(model, *data, verbose=0, **rates, **arguments)
    # In the second cycle.
    np.testing.assert_array_equal(np.isinf(result.cycle_loss)[:3], [False, True, False])
    cycles = model.seen[80:]
    assert len(cycles) == 10 * len(result.cycle_lr)
    for number in range(len(result.cycle_lr)):
        assert cycles[10 * number :][:10] == cycles[:10]


def test_arrays_that_no_index_reaches() -> None:
    x, y = reference.data(640)
    data: Any = scipy.sparse.csr_matrix(x)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        data = tf.sparse.from_dense(x)
    elif keras.backend.backend() == "torch":
        import torch

        data = torch.tensor(x, dtype=torch.bfloat16)
    result = lr_find(compiled(OPTIMIZERS["SGD"]()), data, y, cycle_steps=16, **FIND)
    assert len(result.cycle_lr) >= 2
    assert 1e-4 < result.suggest() < 1


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a model takes strings on TensorFlow"
)
def test_strings() -> None:
    import tensorflow as tf

    _, y = reference.data(640)
    words = np.array(["a b", "b c", "c d", "d a"] * 160, object)
    vectorize = keras.layers.TextVectorization(10, output_sequence_length=2)
    vectorize.adapt(["a b c d"])
    parts = [keras.layers.Embedding(10, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
    build_from(keras.Sequential([vectorize]), words)
    model = keras.Sequential([vectorize, *parts])
    model.compile(OPTIMIZERS["SGD"](), loss="mse")
    fit = {"batch_size": 32, "max_lr": 100.0, "verbose": 0}
    result = lr_find(model, tf.constant(words), y, num_steps=50, cycle_steps=10, **fit)
    assert len(result.cycle_lr) >= 2


@pytest.mark.any_backend
def test_data_that_run_out_are_told() -> None:
    x, y = reference.data(64)
    batches = (batch for _ in range(18) for batch in reference.split(x, y, 8))
    with pytest.warns(
        UserWarning, match="short cycles end after 1 of up to 4 because the data ran out"
    ):
        result = lr_find(
            compiled(OPTIMIZERS["SGD"]()),
            batches,
            num_steps=100,
            stop_factor=None,
            cycle_steps=30,
            verbose=0,
        )
    assert len(result.cycle_lr) == 1


@pytest.mark.any_backend
def test_the_bar_and_the_picture(capsys: pytest.CaptureFixture, tmp_path: Any) -> None:
    x, y = reference.data(64)
    arguments = {"batch_size": 8, "num_steps": 30, "cycle_steps": 10}
    result = lr_find(compiled(OPTIMIZERS["SGD"]()), x, y, **arguments)
    out = capsys.readouterr().out
    assert "max_lr" in out
    assert f"{10 * len(result.cycle_lr)}/40" in out
    range_test, cycles = result.plot().axes
    (line,) = [each for each in cycles.lines if "short cycle" in str(each.get_label())]
    order = np.argsort(result.cycle_lr)
    finite = order[np.isfinite(result.cycle_loss[order])]
    np.testing.assert_allclose(
        line.get_xydata().T, [result.cycle_lr[finite], result.cycle_loss[finite]]
    )
    assert range_test.get_xlabel() == "learning rate"
    result.save(tmp_path / "result.json")
    again = RangeTestResult.load(tmp_path / "result.json")
    np.testing.assert_array_equal(again.cycle_loss, result.cycle_loss)
    assert again.suggest() == result.suggest()


def test_bad_cycle_steps_are_named_before_anything_trains() -> None:
    x, y = reference.data(64)
    for wrong, error in [(5, ValueError), (-1, ValueError), (20.5, TypeError), (True, TypeError)]:
        with pytest.raises(error, match=f"cycle_steps={wrong!r}"):
            lr_find(compiled(OPTIMIZERS["SGD"]()), x, y, cycle_steps=wrong, **FIND)


# The ladder

RATES = st.lists(st.integers(-20, 8), min_size=1, max_size=4, unique=True)
LOSSES = st.lists(st.integers(0, 300).map(lambda n: n / 100), min_size=4, max_size=4, unique=True)


def climbed(losses_of: Callable[[float], float], first: float) -> Ladder:
    ladder = Ladder(first)
    while len(ladder.lr) < 4 and (rate := ladder.next()) is not None:
        ladder.add(rate, losses_of(rate))
    return ladder


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("first", "tried"),
    [(0.1, [0.1, 0.3, 0.9, 1 / 30]), (0.01, [0.01, 0.03, 0.09, 0.27])],
)
def test_it_climbs_until_two_are_worse_and_then_goes_down(first: float, tried: list) -> None:
    ladder = climbed(lambda rate: (np.log10(rate) + 1) ** 2, first)
    np.testing.assert_allclose(ladder.lr, tried, rtol=1e-6)


@pytest.mark.any_backend
def test_where_every_rate_diverges_it_goes_down() -> None:
    ladder = climbed(lambda rate: np.inf, 0.9)
    np.testing.assert_allclose(ladder.lr, [0.9, 0.3, 0.1, 1 / 30], rtol=1e-6)


@pytest.mark.any_backend
def test_one_worse_rate_does_not_end_the_climb() -> None:
    ladder = climbed(lambda rate: {0.01: 1.0, 0.03: 1.2, 0.09: 0.5}.get(round(rate, 6), 2.0), 0.01)
    np.testing.assert_allclose(ladder.lr, [0.01, 0.03, 0.09, 0.27], rtol=1e-6)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("losses", "suggested"),
    [
        ([0.55, 0.5, 1.0, 2.0], 0.03 / 2),
        # The gain is 2, and the next rate loses more than half of it.
        ([0.55, 0.5, 1.6, 2.0], 0.03 / 3),
        ([0.55, 0.5, np.inf, np.inf], 0.03 / 3),
        ([2.0, 1.0, 0.6, 0.5], 0.3 / 3),
        ([0.5, 0.6, 0.7, 0.8], 0.01 / 2),
    ],
)
def test_half_of_the_best_and_a_third_at_the_brink(losses: list[float], suggested: float) -> None:
    lr = np.array([0.01, 0.03, 0.1, 0.3])
    assert below_best(lr, np.array(losses), 2.5, 0.1) == pytest.approx(suggested)


@pytest.mark.any_backend
def test_where_no_cycle_learns_an_error_names_the_next_step() -> None:
    with pytest.raises(ValueError, match=r"No short cycle.*`cycle_steps=400`"):
        below_best(np.array([0.1, 0.3]), np.array([2.3, 2.31]), 2.3, 0.1)


@pytest.mark.any_backend
def test_where_the_curve_is_noise_they_begin_at_a_tenth_of_its_last_rate_and_may_learn_nothing() -> (
    None
):
    x, _ = reference.data(64)
    noise = np.random.default_rng(1).normal(size=(64, 1)).astype("float32")
    arguments = FIND | {"max_lr": 1e-5}
    result = lr_find(compiled(OPTIMIZERS["SGD"]()), x, noise, **arguments)
    assert result.cycle_lr[0] == pytest.approx(1e-6)
    with pytest.raises(ValueError, match="No short cycle"):
        result.suggest()
    with pytest.raises(ValueError, match=r"num_steps=500|never falls|turn up|flat"):
        result.suggest("edge")


@pytest.mark.any_backend
def test_without_a_finite_loss_there_are_none() -> None:
    x, y = reference.data(64)
    result = lr_find(compiled(OPTIMIZERS["SGD"]()), x, np.nan * y, **FIND)
    assert not len(result.cycle_lr)
    with pytest.raises(ValueError, match="at least 5 finite"):
        result.suggest()
    with pytest.raises(ValueError, match=r"must be one of 'edge'.*'short_cycles'"):
        result.suggest("short_cycles")


@pytest.mark.any_backend
@settings(max_examples=100, deadline=None)
@given(RATES, LOSSES, st.integers(-4, 4), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_suggestion_goes_with_the_rates_and_not_with_scale_and_offset_of_the_loss(
    powers: list[int], losses: list[float], decades: int, scale: float, offset: float
) -> None:
    lr, loss = 3.0 ** np.array(powers), np.array(losses)[: len(powers)]
    try:
        suggested = below_best(lr, loss, 2.5, 0.2)
    except ValueError:
        return
    assert 0 < suggested <= lr.max()
    learns = loss.min() < 2.5 - 0.2
    if learns:
        assert lr[np.argmin(loss)] / 3.01 <= suggested <= lr[np.argmin(loss)] * 1.01
    assert below_best(10.0**decades * lr, loss, 2.5, 0.2) == pytest.approx(
        10.0**decades * suggested
    )
    half = (loss.min() + 2.5) / 2
    if abs(loss.min() - 2.3) > 0.01 and all(abs(each - half) > 0.01 for each in loss):
        again = below_best(lr, scale * loss + offset, scale * 2.5 + offset, scale * 0.2)
        assert again == pytest.approx(suggested, rel=1e-4)
    turned = np.argsort(-lr)
    assert below_best(lr[turned], loss[turned], 2.5, 0.2) == pytest.approx(suggested)
