"""Suggestions equal fastai's; curves that allow none are refused."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

import reference
from keras_onecycle import RangeTestResult, suggestion
from keras_onecycle.range_tests._smoothing import smooth_both_ways

pytestmark = pytest.mark.any_backend

METHODS = ["edge", "minimum", "valley"]
FASTAI = ("minimum", "valley")


@pytest.mark.parametrize("method", FASTAI)
def test_equals_fastai(method: str) -> None:
    cases = reference.load("fastai_suggestions")
    assert len(cases) == 48
    for case in cases:
        got = getattr(suggestion, method)(np.array(case["lr"]), np.array(case["loss"]))
        assert got == pytest.approx(case[method], rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(1.0, 1e30), st.integers(1, 15))
def test_how_far_the_loss_diverges_does_not_move_the_default(height: float, points: int) -> None:
    lr = np.geomspace(1e-6, 1, 80)
    loss = 2.0 - 1 / (1 + np.exp(-2 * np.log(lr / 1e-2)))
    loss[-points:] = 2.0 + height * np.linspace(1, 2, points)
    higher = np.where(loss > 2.0, 1e3 * loss, loss)
    suggested = [RangeTestResult(lr, each, each).suggest() for each in (loss, higher)]
    assert suggested[0] == pytest.approx(suggested[1])
    # A quarter of the last rate that trains, less what the smoothing sees of what comes after.
    assert lr[-points - 10] / 4 <= suggested[0] <= lr[-points - 1] / 4


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 10), st.just(np.nan)), min_size=20, max_size=60))
def test_the_default_is_a_quarter_of_the_last_rate_before_the_rise_of_the_smoothed_losses(
    loss: list,
) -> None:
    lr, losses = np.geomspace(1e-4, 1, len(loss)), np.array(loss)
    finite = np.isfinite(losses)
    there = [value for value in loss if value == value]
    descent = there[: there.index(min(there)) + 1] if there else [0.0]
    most = 2 * max(descent) - min(descent) if len(descent) > 1 else np.inf
    share, total = (
        gaussian_filter1d(values, 3.0, mode="constant", truncate=30.0)
        for values in (finite.astype(float), np.where(finite, losses, 0.0).clip(max=most))
    )
    # SciPy normalizes its kernel, both times alike.
    smooth = total / np.where(share, share, np.nan)
    np.testing.assert_allclose(smooth_both_ways(losses), smooth, rtol=1e-6, atol=1e-9)
    read = slice(len(lr) // 10, len(lr) - 5)
    try:
        got = RangeTestResult(lr, losses, losses).suggest()
    except ValueError:
        return  # Nothing can be read off it.
    curve, rates = smooth[read], lr[read]
    ends = []
    # Rounding decides which of equal losses is the lowest, and on which side of the limit one is.
    for lowest in np.flatnonzero(curve <= curve.min() + 1e-6):
        for tenth in (0.1 - 1e-6, 0.1 + 1e-6):
            end = lowest
            descent = curve[: lowest + 1].max() - curve[lowest]
            while end + 1 < len(curve) and curve[end + 1] <= curve[lowest] + tenth * descent:
                end += 1
            ends.append(rates[end] / 4)
    assert min(ends) * (1 - 1e-9) <= got <= max(ends) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("loss", "place"),
    [
        ([4.0, 3.0, 2.0, 1.0], 3),  # Falls to its end.
        ([4.0, 3.0, 1.0, 1.2, 1.4], 3),  # A tenth of the descent is 0.3.
        ([3.0, 1.0, 1.1, 0.9, 1.0, 2.0, 0.95], 4),  # Up for good before it falls again.
    ],
)
def test_the_edge(loss: list[float], place: int) -> None:
    lr = np.geomspace(1e-3, 1, len(loss))
    assert suggestion.edge(lr, np.array(loss)) == lr[place] / 4


def test_a_loss_that_does_not_turn_up_warns() -> None:
    falls = np.linspace(5, 1, 100)
    with pytest.warns(UserWarning, match=r"does not turn up .*rates up to 10"):
        suggested = result(falls).suggest()
    assert suggested == result(falls).lr[-6] / 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result(falls).suggest("minimum")
        result(bowl()).suggest()
        result(np.append(falls[:-1], np.nan)).suggest()


def fastai_valley(lr: np.ndarray, loss: np.ndarray) -> float:
    """The definition, point by point: as long as possible, each loss below the one before."""
    length = [1] * len(loss)
    start = end = 0
    for i in range(1, len(loss)):
        for j in range(i):
            if loss[i] < loss[j] and length[i] < length[j] + 1:
                length[i] = length[j] + 1
            if length[end] < length[i]:
                start, end = i - length[i], i
    third = (end - start) / 3
    return float(lr[start + int(third) + int(third / 2)])


curves = st.lists(st.integers(0, 20), min_size=16, max_size=60).map(
    lambda values: np.array(values, dtype=float)
)


@settings(max_examples=200, deadline=None)
@given(curves)
def test_valley_of_any_curve_with_ties(loss: np.ndarray) -> None:
    lr = np.geomspace(1e-6, 1, len(loss))
    assert suggestion.valley(lr, loss) == fastai_valley(lr, loss)


@settings(max_examples=100, deadline=None)
@given(curves, st.sampled_from(FASTAI), st.floats(0.1, 10), st.floats(-5, 5))
def test_a_suggestion_is_a_tested_rate(
    loss: np.ndarray, method: str, scale: float, shift: float
) -> None:
    lr = np.geomspace(1e-6, 1, len(loss))
    function = getattr(suggestion, method)
    suggested = function(lr, loss)
    tested = lr / 10 if method == "minimum" else lr
    assert suggested in tested
    # Losses in other units say the same.
    assert function(lr, loss * scale + shift) == suggested


def result(loss: np.ndarray, **arguments: object) -> RangeTestResult:
    lr = np.geomspace(1e-6, 10, len(loss))
    return RangeTestResult(**{"lr": lr, "loss": loss, "smoothed_loss": loss, **arguments})


def bowl(points: int = 100) -> np.ndarray:
    return 1 + (np.linspace(-6, 1, points) + 1) ** 2


@pytest.mark.parametrize("method", METHODS)
def test_suggest_leaves_out_the_ends_as_fastai_does(method: str) -> None:
    curve = bowl()
    tested = result(curve)
    wanted = getattr(suggestion, method)(tested.lr[10:-5], curve[10:-5])
    assert tested.suggest(method) == wanted


def test_suggest_takes_a_function_of_ones_own() -> None:
    seen: list[int] = []

    def middle(lr: np.ndarray, loss: np.ndarray) -> float:
        seen.append(len(lr))
        return lr[len(lr) // 2]

    tested = result(bowl())
    assert tested.suggest(middle) == tested.lr[10 + 85 // 2]
    assert seen == [85]


def test_suggest_stops_at_the_first_nan_and_leaves_out_a_rate_of_zero() -> None:
    curve = bowl()
    curve[80:] = np.nan
    tested = result(curve)
    assert tested.suggest("minimum") == suggestion.minimum(tested.lr[10:80], curve[10:80])
    linear = result(bowl(), lr=np.linspace(0, 1, 100), mode="linear")
    assert linear.suggest(lambda lr, loss: lr[0]) > 0
    short = result(bowl(15), lr=np.linspace(0, 1, 15), mode="linear")
    assert short.suggest(lambda lr, loss: lr[0]) > 0


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (np.array([]), "at least 5 .*Received: 0 points"),
        (bowl(9), "at least 5 .*Received: 4 points"),
        (np.full(100, 2.3), "flat"),
        (2.3 + 1e-9 * np.arange(100), "flat"),
        (np.full(100, np.nan), "Received: 0 points.*if no loss was ever finite"),
        (np.linspace(1, 5, 100), "never falls"),
    ],
)
@pytest.mark.parametrize("method", [*METHODS, lambda lr, loss: 0.1])
def test_no_made_up_number(curve: np.ndarray, message: str, method: object) -> None:
    with pytest.raises(ValueError, match=message):
        result(curve).suggest(method)


def noisy(curve: np.ndarray, seed: int) -> RangeTestResult:
    """A curve with noise of 0.3, and the bias-corrected moving average that a range test makes of it."""
    loss = curve + np.random.default_rng(seed).normal(0, 0.3, len(curve))
    weights = 0.98 ** np.arange(len(loss))
    smoothed = np.convolve(loss, weights)[: len(loss)] / np.cumsum(weights)
    return RangeTestResult(lr=np.geomspace(1e-6, 10, len(loss)), loss=loss, smoothed_loss=smoothed)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.filterwarnings("error")
def test_noise_suggests_nothing(seed: int) -> None:
    with pytest.raises(ValueError, match=r"num_steps=500|never falls"):
        noisy(np.full(100, 2.3), seed).suggest("minimum")
    falls = 2.3 - np.linspace(0, 2, 100)
    diverges = 50 * np.linspace(0, 1, 100) ** 30
    assert noisy(falls + diverges, seed).suggest("minimum") > 0


@pytest.mark.parametrize(("max_lr", "advised"), [(0.1, True), (10.0, False)])
@pytest.mark.filterwarnings("error")
def test_higher_rates_are_advised_only_where_they_were_low(max_lr: float, advised: bool) -> None:
    flat, noise = np.full(100, 2.3), noisy(np.full(100, 2.3), 2)
    for loss, smoothed in ((flat, flat), (noise.loss, noise.smoothed_loss)):
        tested = RangeTestResult(np.geomspace(1e-6, max_lr, 100), loss, smoothed)
        with pytest.raises(ValueError, match=r"flat|so no learning rate stands out") as told:
            tested.suggest("minimum")
        assert ("higher learning rates" in str(told.value)) == advised


def test_bad_methods_are_named() -> None:
    with pytest.raises(ValueError, match=r"`method` must be one of 'edge'.*method='best'"):
        result(bowl()).suggest("best")
    with pytest.raises(TypeError, match="method=3"):
        result(bowl()).suggest(3)
