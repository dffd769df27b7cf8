"""The momentum range test: what each update used, the value it suggests, and that it leaves no trace."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

import reference
from keras_onecycle import OneCycle, RangeTestResult, momentum_find
from test_range_test import Interrupt, assert_same_state, compiled, noisy, state

OPTIMIZERS: dict[str, tuple[str, Callable[[], keras.Optimizer]]] = {
    "SGD": ("momentum", lambda: keras.optimizers.SGD(0.03, momentum=0.9)),
    "Adam": ("beta_1", lambda: keras.optimizers.Adam(0.03)),
}


def losses_and_weights(
    make: Callable[[], keras.Optimizer], name: str, batches: list, momenta: np.ndarray
) -> tuple[np.ndarray, keras.Model]:
    """The loss of each update before it is made, by an eager optimizer with Python floats."""
    model = reference.build()
    losses: list[float] = []
    optimizer = make()
    accumulation = optimizer.gradient_accumulation_steps or 1

    def set_floats(plain: keras.Optimizer, update: int) -> None:
        x, y = batches[len(losses)]
        losses.append(float(np.mean((reference.forward(model, x) - y) ** 2)))
        setattr(plain, name, float(momenta[update]))

    reference.train_eagerly(model, optimizer, batches, set_floats)
    return np.array(losses).reshape(-1, accumulation).mean(axis=1), model


# The curve


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [
        ("SGD", 0.1, 0.95),
        ("Adam", 0.95, 0.1),
    ],
)
def test_each_update_uses_its_momentum(kind: str, start: float, end: float) -> None:
    name, make = OPTIMIZERS[kind]
    # 8 batches: the data is gone over twice.
    x, y = reference.data(64)
    model = compiled(make())
    result = momentum_find(
        model,
        x,
        y,
        batch_size=8,
        shuffle=False,
        start_momentum=start,
        end_momentum=end,
        num_steps=16,
        stop_factor=None,
        verbose=0,
    )
    momenta = np.linspace(start, end, 16)
    losses, _ = losses_and_weights(make, name, reference.split(x, y, 8) * 2, momenta)
    np.testing.assert_allclose(result.loss, losses, rtol=1e-4)
    np.testing.assert_allclose(result.momentum, momenta, atol=1e-7)
    np.testing.assert_allclose(result.lr, np.full(16, make().get_config()["learning_rate"]))
    assert result.mode == "linear"
    assert getattr(model.optimizer, name) == getattr(make(), name)


@pytest.mark.any_backend
def test_another_learning_rate_for_the_test_alone_and_validation_along_the_way() -> None:
    x, y = reference.data(80)
    x, y, val_x, val_y = x[:64], y[:64], x[64:], y[64:]
    model = compiled(keras.optimizers.SGD(1e-5, momentum=0.9), steps_per_execution=4)
    result = momentum_find(
        model,
        x,
        y,
        learning_rate=0.03,
        batch_size=8,
        shuffle=False,
        num_steps=8,
        validation_data=(val_x, val_y),
        validation_freq=5,
        verbose=0,
    )
    momenta = np.linspace(0.7, 0.99, 8)
    np.testing.assert_allclose(result.val_momentum, momenta[[4, 7]], atol=1e-7)
    np.testing.assert_allclose(result.val_lr, np.full(2, 0.03), rtol=1e-6)
    for point, updates in enumerate((5, 8)):
        losses, trained = losses_and_weights(
            lambda: keras.optimizers.SGD(0.03, momentum=0.9),
            "momentum",
            reference.split(x, y, 8)[:updates],
            momenta,
        )
        np.testing.assert_allclose(result.loss[:updates], losses, rtol=1e-4)
        error = np.mean((reference.forward(trained, val_x) - val_y) ** 2)
        np.testing.assert_allclose(result.val_loss[point], error, rtol=1e-4)
    np.testing.assert_allclose(result.lr, np.full(8, 0.03), rtol=1e-6)
    assert model.optimizer.get_config()["learning_rate"] == pytest.approx(1e-5)
    assert model.steps_per_execution == 4


# No trace


@pytest.mark.any_backend
def test_no_trace() -> None:
    x, y = reference.data(64)
    model = compiled(OPTIMIZERS["Adam"][1](), *noisy())
    model.fit(x, y, batch_size=8, verbose=0)
    before = state(model)
    stop = Interrupt(11, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        momentum_find(model, x, y, batch_size=8, verbose=0, callbacks=[stop])
    assert_same_state(model, before)
    assert type(model.optimizer) is type(keras.optimizers.Adam())
    assert model.optimizer.beta_1 == 0.9


def test_nothing_else_moves_the_fixed_learning_rate() -> None:
    x, y = reference.data(64)
    cooler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    with pytest.raises(ValueError, match="`learning_rate` follows the schedule"):
        momentum_find(compiled(), x, y, verbose=0, callbacks=[cooler])
    with pytest.raises(ValueError, match=r"already follows "):
        momentum_find(compiled(), x, y, verbose=0, callbacks=[OneCycle(0.1)])


@pytest.mark.any_backend
def test_the_progress_bar_shows_momentum(capsys: pytest.CaptureFixture) -> None:
    x, y = reference.data(64)
    momentum_find(compiled(), x, y, batch_size=8, num_steps=12, stop_factor=None)
    out = capsys.readouterr().out
    assert "12/12" in out
    assert "momentum: 0.99" in out


# Bad input


@pytest.mark.any_backend
def test_bad_arguments_are_named() -> None:
    x, y = reference.data(16)
    model = compiled()
    before = model.get_weights()
    bad: list[tuple[str, Any, type[Exception]]] = [
        ("start_momentum", -0.1, ValueError),
        ("start_momentum", 1.0, ValueError),
        ("start_momentum", 0.99, ValueError),
        ("end_momentum", 1.0, ValueError),
        ("end_momentum", float("nan"), ValueError),
        ("end_momentum", "high", TypeError),
        ("learning_rate", 0.0, ValueError),
        ("num_steps", 1, ValueError),
        ("validation_freq", 5, ValueError),
        ("epochs", 3, TypeError),
    ]
    for name, value, error in bad:
        with pytest.raises(error, match=f"`{name}`.*Received: .*{name}="):
            momentum_find(model, x, y, **{name: value})
    for got, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, kept)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (keras.optimizers.Adagrad, "`Adagrad` has no momentum"),
        (keras.optimizers.SGD, r"`SGD` was created with `momentum=0\.0`.*`SGD\(\.\.\., momentum=0"),
        (
            lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9), 0.9),
            "already has a learning rate schedule",
        ),
    ],
)
def test_an_optimizer_that_cannot_follow_is_named(optimizer: Callable, message: str) -> None:
    x, y = reference.data(16)
    model = compiled(optimizer())
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        momentum_find(model, x, y, verbose=0)
    for got, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, kept)


# The result


def made(loss: np.ndarray, start: float = 0.7, end: float = 0.99) -> RangeTestResult:
    momentum = np.linspace(start, end, len(loss))
    return RangeTestResult(
        lr=np.full(len(loss), 0.1),
        loss=loss + 0.1,
        smoothed_loss=loss,
        mode="linear",
        val_lr=np.full(len(loss[::10]), 0.1),
        val_loss=loss[::10] * 2,
        momentum=momentum,
        val_momentum=momentum[::10],
    )


def bowl(points: int = 100, lowest: float = 0.6) -> np.ndarray:
    return 1 + (np.linspace(0, 1, points) - lowest) ** 2


@pytest.mark.any_backend
def test_the_suggestion_is_the_largest_momentum_before_the_loss_turns_up() -> None:
    rising = made(bowl())
    assert rising.suggest() == rising.suggest("stable") == rising.momentum[np.argmin(bowl())]
    # Neither end is left out: the paper saw curves that fall to the last point.
    assert made(bowl(lowest=1.5)).suggest() == pytest.approx(0.99)
    diverged = bowl()
    diverged[70:] = np.nan
    assert made(diverged).suggest() == rising.suggest()
    falling = made(np.linspace(2, 1, 50), 0.99, 0.7)
    assert falling.suggest() == pytest.approx(0.99)
    # One that falls, rises until momentum is small enough, and falls.
    hump = np.interp(np.arange(50), [0, 5, 20, 49], [2.0, 1.8, 3.0, 0.5])
    assert made(hump, 0.99, 0.7).suggest() == np.linspace(0.99, 0.7, 50)[20]
    # What one batch differs from another by is no rise.
    noise = np.linspace(2, 1, 50) + np.resize([0.0, 0.04], 50)
    assert made(noise, 0.99, 0.7).suggest() == pytest.approx(0.99)


@pytest.mark.any_backend
def test_a_function_of_ones_own_sees_every_momentum() -> None:
    seen: list[int] = []

    def first(momentum: np.ndarray, loss: np.ndarray) -> float:
        seen.append(len(momentum))
        return momentum[0]

    assert made(bowl(), 0.0, 0.9).suggest(first) == 0.0
    assert seen == [100]


@pytest.mark.any_backend
def test_methods_for_learning_rates_are_refused() -> None:
    for method in ("edge", "best"):
        with pytest.raises(ValueError, match=f"must be one of 'stable', 'auto'.*'{method}'"):
            made(bowl()).suggest(method)
    lr = np.geomspace(1e-3, 1, 100)
    with pytest.raises(ValueError, match=r"`method` must be one of 'edge'.*'stable'"):
        RangeTestResult(lr, bowl(), bowl()).suggest("stable")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("curve", "start", "end", "message"),
    [
        (bowl(4), 0.7, 0.99, "at least 5 finite losses .* Received: 4 .*lower learning rates"),
        (np.array([]), 0.7, 0.99, "Received: 0 points"),
        (np.full(50, 2.3), 0.7, 0.99, "flat"),
        (np.linspace(1, 5, 50), 0.7, 0.99, "never falls .*a momentum of 0.7"),
        (bowl(lowest=0.3), 0.99, 0.7, "still rises .*`end_momentum`.*a momentum of 0.7"),
    ],
)
def test_no_made_up_number(curve: np.ndarray, start: float, end: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(curve, start, end).suggest()


@pytest.mark.any_backend
@pytest.mark.parametrize(("start", "end"), [(0.7, 0.99), (0.99, 0.7)])
def test_plot(start: float, end: float) -> None:
    tested = made(bowl(lowest=0.6 if start < end else 1.0), start, end)
    method = "auto" if start < end else (lambda momentum, loss: 0.8)
    (ax,) = tested.plot(method=method).axes
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("momentum", "loss", "linear")
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(lines["smoothed"].get_xdata(), tested.momentum)
    np.testing.assert_array_equal(lines["validation loss"].get_xdata(), tested.val_momentum)
    assert f"suggested: {tested.suggest() if start < end else 0.8:.3g}" in lines
    plt.close(ax.figure)


@pytest.mark.any_backend
def test_a_file_holds_it_and_old_files_load(tmp_path: Path) -> None:
    path = tmp_path / "momentum.json"
    tested = made(bowl())
    tested.save(path)
    loaded = RangeTestResult.load(path)
    for name in ("lr", "loss", "smoothed_loss", "momentum", "val_lr", "val_loss", "val_momentum"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(tested, name))
    assert loaded.suggest() == tested.suggest()
    content = json.loads(path.read_text())
    assert content["version"] == 1
    # What was saved before there was a momentum.
    del content["momentum"], content["val_momentum"]
    path.write_text(json.dumps(content))
    assert RangeTestResult.load(path).momentum is None
    path.write_text(json.dumps({**content, "momentum": [0.9]}))
    with pytest.raises(ValueError, match=r"`momentum` must be.*momentum\.json"):
        RangeTestResult.load(path)


@pytest.mark.any_backend
def test_shapes_must_agree() -> None:
    one = {"lr": [0.1], "loss": [1.0], "smoothed_loss": [1.0]}
    with pytest.raises(ValueError, match="`momentum`"):
        RangeTestResult(**one, momentum=[0.7, 0.8])
    with pytest.raises(ValueError, match="`val_momentum`"):
        RangeTestResult(**one, momentum=[0.7], val_lr=[0.1], val_loss=[1.0], val_momentum=[])
    shown = repr(RangeTestResult(**one, momentum=[0.7], mode="linear"))
    assert shown == "RangeTestResult(points=1, lr=0.1..0.1, momentum=0.7..0.7, mode='linear')"
