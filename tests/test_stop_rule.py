"""The moving average and the stop rule of a range test, without Keras."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_onecycle.range_tests._stop_rule import LossCurve

pytestmark = pytest.mark.any_backend


def run(
    losses: np.ndarray, weights: np.ndarray | None = None, smoothing: float = 0.98
) -> tuple[LossCurve, str | None]:
    curve = LossCurve(len(losses), smoothing, 4.0)
    for step, loss in enumerate(losses):
        curve.add(step, float(loss), 1.0 if weights is None else float(weights[step]))
        if (reason := curve.stop_reason()) is not None:
            return curve, reason
    return curve, None


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30),
    st.integers(1, 9),
    st.floats(0, 0.99),
)
def test_the_average_is_weighted_by_samples_and_age(
    losses: list[float], samples: int, smoothing: float
) -> None:
    weights = np.ones(len(losses))
    weights[-1] = samples
    curve = LossCurve(len(losses), smoothing, None)
    for step, loss in enumerate(losses):
        curve.add(step, loss, weights[step])
    wanted = np.average(losses, weights=weights * smoothing ** np.arange(len(losses))[::-1])
    np.testing.assert_allclose(curve.smoothed[-1], wanted, rtol=1e-6, atol=1e-6)


def test_a_last_batch_of_one_sample_counts_as_one_sample() -> None:
    losses, weights = np.full(50, 1.0), np.full(50, 64.0)
    losses[24], weights[24] = 10.0, 1.0
    curve, reason = run(losses, weights)
    assert reason is None
    assert max(curve.smoothed) < 1.02


@pytest.mark.parametrize("first", [0.0, 1e-6, np.inf])
def test_the_first_loss_alone_decides_nothing(first: float) -> None:
    losses = np.full(100, 1.0)
    losses[0] = first
    curve, reason = run(losses)
    assert reason is None
    np.testing.assert_allclose(curve.smoothed[-1], 1.0, atol=0.02)


def test_one_outlier_decides_nothing_and_a_rise_does() -> None:
    losses = np.full(100, 0.01)
    losses[[15, 40, 60]] = 3.0, 5.0, np.inf
    assert run(losses)[1] is None
    losses[80:] = 10.0 ** np.arange(20)
    curve, reason = run(losses)
    assert reason.startswith("the loss is above")
    assert curve.steps[-1] == 84


def test_nan_ends_it_at_once_and_infinity_when_it_stays() -> None:
    losses = np.linspace(2, 1, 100)
    losses[50] = np.nan
    curve, reason = run(losses)
    assert (reason, curve.steps[-1]) == ("the loss is NaN", 50)
    losses[50:] = np.inf
    curve, reason = run(losses)
    assert reason.startswith("the loss is above")
    assert curve.steps[-1] == 54


@pytest.mark.parametrize("seed", range(20))
def test_heavy_tails_of_single_samples_do_not_stop_it(seed: int) -> None:
    # Cross-entropies of a trained net, sample by sample: most near 0, a few large.
    rng = np.random.default_rng(seed)
    assert run(rng.exponential(0.02, 100) + 4 * (rng.random(100) < 0.05))[1] is None
