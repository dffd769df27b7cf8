"""The policies against PyTorch's values, a formula in Python's doubles, and Keras's own saving."""

from functools import partial

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from keras_onecycle import OneCycleSchedule
from keras_onecycle.schedules import (
    evaluate,
    one_cycle_lr,
    one_cycle_momentum,
    range_test_lr,
)

LR_ONLY = ("max_lr", "div_factor", "final_div_factor")
MOMENTUM_ONLY = ("base_momentum", "max_momentum")


def schedules(arguments: dict[str, object]) -> tuple[partial, partial]:
    return (
        partial(one_cycle_lr, **{k: v for k, v in arguments.items() if k not in MOMENTUM_ONLY}),
        partial(one_cycle_momentum, **{k: v for k, v in arguments.items() if k not in LR_ONLY}),
    )


def in_numpy(steps: object, **arguments: object) -> list[np.ndarray]:
    return [evaluate(schedule, steps) for schedule in schedules(arguments)]


def in_the_step(steps: object, **arguments: object) -> list[np.ndarray]:
    # Of a function that it does not know, `evaluate` computes the values with the backend.
    return [evaluate(lambda step, s=s: s(step), steps) for s in schedules(arguments)]


def test_every_step_equals_pytorch() -> None:
    cases = reference.load("pytorch_one_cycle")
    assert len(cases) == 28
    # Of one length, so that JAX compiles once.
    longest = np.arange(max(len(case["lr"]) for case in cases))
    for case in cases:
        steps = len(case["lr"])
        lr, momentum = (values[:steps] for values in in_the_step(longest, **case["arguments"]))
        np.testing.assert_allclose(lr, case["lr"], rtol=1e-5, err_msg=str(case["arguments"]))
        np.testing.assert_allclose(momentum, case["momentum"], rtol=1e-5)


@pytest.mark.any_backend
def test_the_formula_of_the_tests_is_pytorchs() -> None:
    for case in reference.load("pytorch_one_cycle"):
        for step, (lr, momentum) in enumerate(zip(case["lr"], case["momentum"], strict=True)):
            got = reference.one_cycle(step, **case["arguments"])
            np.testing.assert_allclose(got, (lr, momentum), rtol=1e-12, atol=1e-17)


@pytest.mark.any_backend
def test_pytorch_itself_agrees() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch's values are also kept in a file")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3.0, total_steps=61)
    arguments = {
        "max_lr": 3.0,
        "total_steps": 61,
        "pct_start": 0.3,
        "anneal_strategy": "cos",
        "base_momentum": 0.85,
        "max_momentum": 0.95,
        "div_factor": 25.0,
        "final_div_factor": 1e4,
        "three_phase": False,
    }
    lr, momentum = in_numpy(np.arange(61), **arguments)
    for step in range(61):
        group = optimizer.param_groups[0]
        np.testing.assert_allclose(lr[step], group["lr"], rtol=1e-5)
        np.testing.assert_allclose(momentum[step], group["momentum"], rtol=1e-5)
        optimizer.step()
        if step < 60:
            scheduler.step()


shapes = st.fixed_dictionaries(
    {
        "total_steps": st.integers(2, 10**9),
        "pct_start": st.floats(0.01, 0.5),
        "anneal_strategy": st.sampled_from(["linear", "cos"]),
        "three_phase": st.booleans(),
        "max_lr": st.floats(1e-6, 100),
        "div_factor": st.floats(1, 100),
        "final_div_factor": st.floats(1, 1e8),
        "base_momentum": st.just(0.85),
        "max_momentum": st.just(0.95),
    }
)


@pytest.mark.any_backend
@settings(max_examples=60, deadline=None)
@given(shapes, st.floats(0, 1))
def test_any_cycle_at_any_step_equals_the_formula(shape: dict, where: float) -> None:
    # The last step is where float32 would lose all digits of a tiny rate.
    total = shape["total_steps"]
    first = int(shape["pct_start"] * total == 1)  # At step 0 PyTorch would divide by zero.
    steps = np.array([first, 1, max(int(where * (total - 1)), first), max(total - 2, 1), total - 1])
    lr, momentum = in_numpy(steps, **shape)
    wanted = np.array([reference.one_cycle(int(step), **shape) for step in steps])
    # The formula in doubles loses digits too, where it subtracts: 1e-16 of the highest rate.
    np.testing.assert_allclose(lr, wanted[:, 0], rtol=1e-4, atol=1e-14 * shape["max_lr"])
    np.testing.assert_allclose(momentum, wanted[:, 1], rtol=1e-5)


@pytest.mark.any_backend
@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 2**30))
def test_a_cycle_holds_its_last_values(shape: dict, beyond: int) -> None:
    last = shape["total_steps"] - 1
    at_end, after = in_numpy(last, **shape), in_numpy(last + beyond, **shape)
    assert at_end == after
    before = in_numpy(np.array([-5, 0]), **shape)
    assert before[0][0] == before[0][1]


@settings(max_examples=20, deadline=None)
@given(shapes)
def test_the_step_computes_what_numpy_computes(shape: dict) -> None:
    steps = np.linspace(-2, shape["total_steps"] + 1, 50).astype(int)
    for got, wanted in zip(in_the_step(steps, **shape), in_numpy(steps, **shape), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=2e-6)


def test_step_1e8_of_1e9_is_not_rounded() -> None:
    shape = {"pct_start": 0.45, "anneal_strategy": "linear", "three_phase": True}
    steps = 10**9 - 1 - np.arange(5)
    lr = evaluate(
        lambda step: one_cycle_lr(
            step, max_lr=1.0, total_steps=10**9, div_factor=10.0, final_div_factor=1e12, **shape
        ),
        steps,
    )
    # Five steps before the end, one step is 1e-9 of the rate at the start of the last phase.
    wanted = [reference.one_cycle(int(s), 10**9, max_lr=1.0, final_div_factor=1e12) for s in steps]
    np.testing.assert_allclose(lr, [w[0] for w in wanted], rtol=1e-4)
    assert len(set(lr.tolist())) == 5


def test_a_first_phase_of_one_step_is_at_its_end() -> None:
    # PyTorch raises ZeroDivisionError here.
    shape = {"total_steps": 10, "pct_start": 0.1, "anneal_strategy": "linear"}
    lr, momentum = in_the_step(
        np.arange(2),
        **shape,
        three_phase=False,
        max_lr=1.0,
        div_factor=10.0,
        final_div_factor=10.0,
        base_momentum=0.8,
        max_momentum=0.9,
    )
    np.testing.assert_allclose((lr[0], momentum[0]), (1.0, 0.8), rtol=1e-6)
    assert lr[1] < 1.0


@pytest.mark.any_backend
def test_a_schedule_may_be_a_constant() -> None:
    assert evaluate(lambda step: 0.5, np.arange(3)).tolist() == [0.5, 0.5, 0.5]


def test_a_single_phase_under_bfloat16() -> None:
    keras.config.set_floatx("bfloat16")
    try:
        got = evaluate(
            lambda s: range_test_lr(s, min_lr=0.0, max_lr=3.0, num_steps=50, mode="linear"),
            np.arange(50),
        )
    finally:
        keras.config.set_floatx("float32")
    np.testing.assert_allclose(got, np.linspace(0, 3, 50), rtol=1e-5)


def test_range_test_equals_numpy() -> None:
    steps = np.arange(50)
    got = evaluate(
        lambda s: range_test_lr(s, min_lr=1e-7, max_lr=10.0, num_steps=50, mode="exponential"),
        steps,
    )
    np.testing.assert_allclose(got, np.geomspace(1e-7, 10, 50), rtol=1e-5)
    got = evaluate(
        lambda s: range_test_lr(s, min_lr=0.0, max_lr=3.0, num_steps=50, mode="linear"), steps
    )
    np.testing.assert_allclose(got, np.linspace(0, 3, 50), rtol=1e-5)
    assert got[0] == 0.0


def test_the_keras_schedule_trains_saves_and_loads(tmp_path: object) -> None:
    x, y = reference.data(40)
    model = reference.build()
    schedule = OneCycleSchedule(max_lr=0.5, total_steps=10, pct_start=0.3, anneal_strategy="cos")
    model.compile(keras.optimizers.SGD(schedule), loss="mse")
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)

    other = reference.build()

    def set_floats(optimizer: keras.Optimizer, update: int) -> None:
        optimizer.learning_rate, _ = reference.one_cycle(
            update, 10, max_lr=0.5, pct_start=0.3, anneal_strategy="cos"
        )

    reference.train_eagerly(other, keras.optimizers.SGD(), reference.split(x, y, 4), set_floats)
    reference.assert_same_weights(model, other)

    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    rate = loaded.optimizer.get_config()["learning_rate"]
    assert rate["config"] == schedule.get_config()


@pytest.mark.parametrize("step", [3, np.int64(3), np.float32(3)])
def test_the_keras_schedule_takes_any_number(step: object) -> None:
    schedule = OneCycleSchedule(max_lr=1.0, total_steps=20)
    assert float(schedule(step)) == pytest.approx(reference.one_cycle(3, 20, max_lr=1.0)[0])
