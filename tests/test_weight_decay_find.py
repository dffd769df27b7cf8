"""Range tests under several weight decays: curves without the penalty, and the rule."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

import reference
from keras_onecycle import RangeTestResult, WeightDecayResult, lr_find, weight_decay_find
from keras_onecycle._keras.loss_parts import penalty

# It goes through `fit` and range tests, which have tests on each backend.
pytestmark = pytest.mark.any_backend


def build(
    weight_decay: float, optimizer: Callable[[], keras.Optimizer] | None = None
) -> keras.Model:
    l2 = keras.regularizers.L2(weight_decay / 2)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, "tanh", kernel_regularizer=l2),
            keras.layers.Dense(1, kernel_regularizer=l2),
        ]
    )
    make = optimizer or (lambda: keras.optimizers.SGD(0.01, momentum=0.9))
    model.compile(make(), loss="mse", metrics=["mae"])
    return model


def decoupled(weight_decay: float) -> keras.Model:
    return build(0.0, lambda: keras.optimizers.AdamW(0.01, weight_decay=weight_decay))


# What regularizers add


def test_the_penalty_is_what_keras_adds_to_the_loss() -> None:
    inner = keras.Sequential([keras.layers.Dense(3, kernel_regularizer="l1"), keras.layers.ReLU()])
    frozen = keras.layers.Dense(2, kernel_regularizer="l2", trainable=False)
    model = keras.Sequential(
        [keras.Input((4,)), inner, frozen, keras.layers.Dense(1, bias_regularizer="l2")]
    )
    model.layers[-1].bias.assign([3.0])
    wanted = 0.01 * np.abs(inner.get_weights()[0]).sum() + 0.01 * 3.0**2
    assert penalty(model) == pytest.approx(wanted, rel=1e-6)
    assert penalty(model) == pytest.approx(float(sum(float(loss) for loss in model.losses)))
    assert penalty(reference.build()) == 0.0


# The curves


def losses(
    weight_decay: float, accumulation: int, x: np.ndarray, y: np.ndarray, rates: np.ndarray
) -> tuple[np.ndarray, keras.Model]:
    """The mean squared error before each update, by an eager optimizer and gradients with `wd * w`."""
    keras.utils.set_random_seed(3)
    model = build(0.0)
    optimizer = keras.optimizers.SGD(
        0.01,
        momentum=0.9,
        gradient_accumulation_steps=accumulation,
    )
    optimizer.build(model.trainable_variables)
    seen = []
    for number, (batch, target) in enumerate(reference.split(x, y, 8)):
        seen.append(np.mean((keras.ops.convert_to_numpy(model(batch)) - target) ** 2))
        optimizer.learning_rate = rates[number // accumulation]
        gradients = [
            gradient + weight_decay * v.value if v.name == "kernel" else gradient
            for gradient, v in zip(
                reference.gradients(model, batch, target), model.trainable_variables, strict=True
            )
        ]
        optimizer.apply(gradients, model.trainable_variables)
    return np.array(seen).reshape(-1, accumulation).mean(axis=1), model


def test_curves_are_of_the_loss_without_the_penalty() -> None:
    accumulation = 2
    x, y = reference.data(64)
    x, y, val_x, val_y = x[:48], y[:48], x[48:], y[48:]
    models: list[keras.Model] = []

    def keep(weight_decay: float) -> keras.Model:
        optimizer = keras.optimizers.SGD(
            0.01, momentum=0.9, gradient_accumulation_steps=accumulation
        )
        models.append(build(weight_decay, lambda: optimizer))
        return models[-1]

    num_steps = 6 // accumulation
    result = weight_decay_find(
        keep,
        x,
        y,
        weight_decays=[2.0, 0.0],
        seed=3,
        min_lr=1e-3,
        max_lr=0.1,
        num_steps=num_steps,
        stop_factor=None,
        batch_size=8,
        shuffle=False,
        validation_data=(val_x, val_y),
        validation_freq=num_steps,
        verbose=0,
    )
    assert list(result.results) == [2.0, 0.0]
    for weight_decay, model in zip(result.results, models, strict=True):
        curve = result.results[weight_decay]
        wanted, trained = losses(
            weight_decay, accumulation, x, y, np.geomspace(1e-3, 0.1, num_steps)
        )
        np.testing.assert_allclose(curve.loss, wanted, rtol=1e-4)
        error = np.mean((keras.ops.convert_to_numpy(trained(val_x)) - val_y) ** 2)
        np.testing.assert_allclose(curve.val_loss, [error], rtol=1e-4)
        assert len(curve.val_metrics["mae"]) == 1
        # No trace: the model is as it was built.
        keras.utils.set_random_seed(3)
        for got, kept in zip(model.get_weights(), build(0.0).get_weights(), strict=True):
            np.testing.assert_array_equal(got, kept)


def test_curves_differ_by_weight_decay_alone(capsys: pytest.CaptureFixture) -> None:
    x, y = reference.data(64)
    arguments = {"batch_size": 8, "num_steps": 12, "verbose": 0}
    # `fit` shuffles; a build that makes no use of the weight decay shows that it does so alike.
    decays = [1e-3, 0.0]
    same = weight_decay_find(
        lambda weight_decay: build(0.01), x, y, weight_decays=decays, **arguments
    )
    curves = [result.loss for result in same.results.values()]
    assert list(same.results) == decays
    for curve in curves[1:]:
        np.testing.assert_array_equal(curve, curves[0])
    with pytest.raises(ValueError, match=r"makes no use of `weight_decay`.*Received"):
        same.suggest()
    assert capsys.readouterr().out == ""


def test_weight_decay_apart_from_the_gradient() -> None:
    x, y = reference.data(64)
    arguments = {"batch_size": 8, "num_steps": 12, "max_lr": 1.0, "stop_factor": None, "verbose": 0}
    result = weight_decay_find(decoupled, x, y, weight_decays=(0.5, 0.0), seed=5, **arguments)
    for weight_decay, curve in result.results.items():
        keras.utils.set_random_seed(5)
        wanted = lr_find(decoupled(weight_decay), x, y, **arguments)
        np.testing.assert_array_equal(curve.loss, wanted.loss)
    assert not np.array_equal(result.results[0.5].loss, result.results[0.0].loss)


def test_a_penalty_that_hides_the_loss_is_divergence() -> None:
    x, y = reference.data(64)
    arguments = {"min_lr": 1e-3, "max_lr": 1e3, "num_steps": 40, "batch_size": 8, "verbose": 0}
    # Weights grow as soon as `lr * weight_decay` is above 2 or so; the loss itself is bounded.
    result = weight_decay_find(bounded, x, y, weight_decays=[10.0], **arguments)
    curve = result.results[10.0]
    assert len(curve.loss) < 40
    assert np.isnan(curve.loss[-1])
    assert (curve.loss[:-1] > -1e-2).all()


def bounded(weight_decay: float) -> keras.Model:
    l2 = keras.regularizers.L2(weight_decay / 2)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(1, "tanh", kernel_regularizer=l2)]
    )
    model.compile(keras.optimizers.SGD(0.01), loss="mse")
    return model


def test_each_test_has_a_bar_and_a_name(capsys: pytest.CaptureFixture) -> None:
    x, y = reference.data(64)
    arguments = {"weight_decays": [0.1, 0.0], "num_steps": 4, "max_lr": 0.1, "batch_size": 8}
    weight_decay_find(build, x, y, verbose=2, **arguments)
    out = capsys.readouterr().out
    assert out.index("Weight decay 0.1\n") < out.index("Weight decay 0\n")
    assert out.count("4/4") == 2


# Bad input


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("weight_decays", [], ValueError),
        ("weight_decays", [0.1, -0.1], ValueError),
        ("weight_decays", [0.1, "0"], TypeError),
        ("weight_decays", [float("inf")], ValueError),
        ("weight_decays", [0.1, 0.0, 0.1], ValueError),
        ("seed", -1, ValueError),
        ("seed", 0.5, TypeError),
        ("num_steps", 1, ValueError),
        ("max_lr", 1e-9, ValueError),
    ],
)
def test_bad_arguments_are_named_before_anything_is_built(
    name: str, value: Any, error: type[Exception]
) -> None:
    x, y = reference.data(16)
    built: list[float] = []
    with pytest.raises(error, match=f"`{name}`.*Received: .*{name}="):
        weight_decay_find(lambda weight_decay: built.append(1.0), x, y, **{name: value})
    assert not built


def test_a_build_or_data_that_cannot_be_is_named() -> None:
    x, y = reference.data(16)
    for returned in (None, reference.build()):
        with pytest.raises((TypeError, ValueError), match=r"`build.*compiled with an optimizer"):
            weight_decay_find(lambda weight_decay, returned=returned: returned, x, y)
    with pytest.raises(ValueError, match=r"`x` is read once .*Received: x="):
        weight_decay_find(build, iter([(x, y)]))
    with pytest.raises(TypeError, match=r"`epochs`.*Received: epochs=3"):
        weight_decay_find(build, x, y, epochs=3)


def test_it_takes_what_lr_find_takes() -> None:
    default = inspect.signature(weight_decay_find).parameters["weight_decays"].default
    assert default == (1e-3, 1e-4, 1e-5, 0.0)
    wanted = r"^`weight_decay_find` has no argument `start_lr`\. It takes build, .*min_lr, "
    with pytest.raises(TypeError, match=wanted):
        weight_decay_find(build, *reference.data(16), start_lr=1e-3)


# The rule


LR = np.geomspace(1e-4, 1.0, 81)


def curve(lowest: float, at: float, width: float = 1.0, start: float = 2.0) -> RangeTestResult:
    """A curve that falls from `start` to `lowest` at a learning rate, and rises again."""
    loss = start - (start - lowest) * np.exp(-((np.log10(LR / at) / width) ** 2))
    loss += start - loss[0]
    return RangeTestResult(LR, loss, loss, val_lr=LR[::20], val_loss=loss[::20])


def test_the_largest_that_still_lets_a_large_rate_train() -> None:
    free = curve(0.5, 0.3)
    # Too large: it falls by a third of what the others do, wherever that is.
    flat = curve(1.5, 0.3)
    # Trains as far down, but up to a tenth of the learning rate only.
    early = curve(0.5, 0.03)
    same = curve(0.55, 0.25)
    result = WeightDecayResult({0.0: free, 1e-1: flat, 1e-2: early, 1e-3: same})
    reach = result.reach()
    fallen = free.smoothed_loss[0] - free.smoothed_loss
    assert reach[0.0] == LR[fallen >= 0.95 * fallen.max()].max()
    assert reach[1e-1] == 0.0
    assert 0 < reach[1e-2] < 0.2 * reach[0.0]
    assert result.suggest() == 1e-3
    assert WeightDecayResult({0.1: flat}).suggest() == 0.1


def test_a_curve_that_diverged_reaches_no_further() -> None:
    diverged, at_once = curve(0.52, 0.3), curve(0.6, 0.3)
    diverged.smoothed_loss = diverged.smoothed_loss.copy()
    diverged.smoothed_loss[50:] = np.nan
    at_once.smoothed_loss = np.full(81, np.nan)
    result = WeightDecayResult({1.0: at_once, 1e-2: diverged, 0.0: curve(0.5, 0.3)})
    assert result.reach()[1.0] == 0.0
    assert result.reach()[1e-2] < LR[50]
    assert result.suggest() == 0.0
    nothing = RangeTestResult([], [], [])
    for none in (
        {1.0: at_once, 0.1: nothing},
        {1.0: curve(2.0, 0.3), 0.1: RangeTestResult(LR, LR, LR)},
    ):
        with pytest.raises(
            ValueError, match=r"falls under no weight decay.*Received: .*\[1\.0, 0\.1\]"
        ):
            WeightDecayResult(none).suggest()


# Picture and file


def test_all_curves_in_one_picture() -> None:
    curves = {1e-1: curve(1.5, 0.3), 1e-3: curve(0.5, 0.25), 0.0: curve(0.45, 0.3)}
    curves[1e-1].smoothed_loss[-5:] = 1e9
    result = WeightDecayResult(curves)
    (ax,) = result.plot().axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "0.1",
        "0.001 (suggested)",
        "0",
    ]
    assert ax.get_legend().get_title().get_text() == "weight decay"
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "learning rate")
    for lines, tested in zip(
        (ax.lines[i : i + 2] for i in (0, 2, 4)), curves.values(), strict=True
    ):
        np.testing.assert_array_equal(lines[0].get_ydata(), tested.smoothed_loss)
        np.testing.assert_array_equal(lines[1].get_xdata(), tested.val_lr)
        assert lines[0].get_color() == lines[1].get_color()
    # What diverged leaves at the top.
    assert ax.get_ylim()[0] < 0.45
    assert 2.0 < ax.get_ylim()[1] < 3.0
    plt.close(ax.figure)
    _, given = plt.subplots()
    nothing = WeightDecayResult({0.1: RangeTestResult([], [], [], mode="linear")})
    assert nothing.plot(given) is given.figure
    assert given.get_xscale() == "linear"
    plt.close(given.figure)
