"""LeNet on MNIST: the published network and policies; what is done is read and not trained; the figures."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from evidence.reproduction.mnist_lenet import figures, lenet, trainings
from evidence.reproduction.mnist_lenet.lenet import Run, run
from evidence.reproduction.mnist_lenet.trainings import MissingRunError, Trainings
from keras_onecycle import RangeTestResult

pytestmark = pytest.mark.any_backend


def result_of(one: Run, *accuracy: float) -> dict[str, Any]:
    """What a training leaves that ends so."""
    return {
        "run": asdict(one),
        "loss": [0.1] * len(accuracy),
        "test_accuracy": list(accuracy),
        "test_loss": [0.2] * len(accuracy),
        "environment": "made up",
    }


def test_lenet_has_the_parameters_of_caffes() -> None:
    # 20 * 25 + 20, 50 * 20 * 25 + 50, 800 * 500 + 500, 500 * 10 + 10.
    assert lenet.lenet(5e-4).count_params() == 520 + 25_050 + 400_500 + 5_010
    dense = lenet.lenet(5e-4, network="dense")
    assert dense.count_params() == 784 * 500 + 500 + 5_010


def test_the_penalty_has_a_gradient_of_the_weight_decay_times_the_weights() -> None:
    model = lenet.lenet(5e-4)
    weights = np.concatenate([variable.numpy().ravel() for variable in model.trainable_variables])
    penalty = sum(float(loss) for loss in model.losses)
    np.testing.assert_allclose(penalty, 5e-4 / 2 * np.sum(weights**2), rtol=1e-5)


def test_caffes_initializer_is_bounded_by_the_root_of_three_over_the_inputs() -> None:
    kernel = np.array(lenet.lenet(5e-4, "lecun_uniform").layers[0].kernel)
    assert 0.98 * np.sqrt(3 / 25) < np.abs(kernel).max() <= np.sqrt(3 / 25)


def test_inv_is_caffes() -> None:
    steps = np.array([0, 1, 100, 10_000])
    rates = [float(lenet.Inv(0.01)(step)) for step in steps]
    np.testing.assert_allclose(rates, 0.01 * (1 + 1e-4 * steps) ** -0.75, rtol=1e-6)


def test_a_training_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    network.add(keras.layers.Dense(10, kernel_initializer="zeros"))
    monkeypatch.setattr(lenet, "lenet", lambda *arguments: network)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (64, 28, 28), "uint8"), np.arange(64) % 10
    mnist = tmp_path / "mnist.npz"
    np.savez(mnist, x_train=x, y_train=y, x_test=x, y_test=y)

    one = run("one_cycle", 0.1, 2, up=1.0, images=40, batch_size=20)
    with pytest.raises(
        MissingRunError, match=r"batch_size=20-seed=0 is not done. Run `the command`"
    ):
        Trainings(1, "the command", out=tmp_path, train=False).of(one)
    result = lenet.train(one, mnist)
    assert int(network.optimizer.iterations) == 2 * 2
    Trainings(out=tmp_path).write(result)
    # The same lab would train what is missing: nothing is.
    ((kept,),) = Trainings(1, out=tmp_path).of(one)
    assert kept["test_accuracy"] == result["test_accuracy"]
    assert len(kept["test_accuracy"]) == 2


def test_a_training_that_diverged_is_counted_and_not_averaged() -> None:
    one = run("step", 0.3, 12)
    results = [result_of(one, accuracy) for accuracy in (0.99, 0.1135, 0.992)]
    assert figures.ended(results) == "99.10 ± 0.14 (2 seeds), 1 diverged"
    assert figures.ended(results[1:2]) == "diverged"


def test_the_best_rate_waits_for_the_whole_grid(tmp_path: Path) -> None:
    here = Trainings(out=tmp_path, train=False)
    ends = dict(zip(trainings.RATES, (0.9, 0.95, 0.93, 0.1), strict=True))
    for rate, end in ends.items():
        with pytest.raises(MissingRunError, match="grid of step in 12 epochs"):
            here.best_lr("step", 12)
        here.write(result_of(run("step", rate, 12, trainings.TUNING_SEED), end))
    best, grid = here.best_lr("step", 12)
    assert best == 0.03
    assert grid[0.3] == pytest.approx(10)


def test_figures_tell_the_numbers_of_their_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(self: Trainings, runs: Any) -> None:
        for one in dict.fromkeys(runs):
            if self.read(one) is None:
                result = result_of(one, *[0.5] * (one.epochs - 1), 0.98 + one.seed / 1000)
                if one.batch_size == 1024 and one.seed:
                    result |= {"test_accuracy": [0.1135], "test_loss": [None]}
                self.write(result)

    def range_tests(self: Trainings, *arguments: Any, **named: Any) -> list[RangeTestResult]:
        lr = np.geomspace(1e-4, 1, 100)
        loss = 2 - lr + 2 * lr**2
        checks = {"val_lr": lr[::5], "val_loss": loss[::5], "val_metrics": {"accuracy": lr[::5]}}
        return [RangeTestResult(lr, loss, loss, "exponential", **checks)] * 2

    monkeypatch.setattr(Trainings, "make", make)
    monkeypatch.setattr(Trainings, "range_tests", range_tests)
    here = Trainings(2, out=tmp_path)
    told = {name: figure(here) for name, figure in figures.FIGURES.items()}
    assert {path.stem for path in here.pictures.glob("*.png")} == set(told)
    # Mean and deviation of 98.0 and 98.1.
    row = "| one cycle 0.01-0.1, 12 epochs | 99.25 ± 0.03 | 98.05 ± 0.07 (2 seeds) |"
    assert row in told["super-convergence"]
    # The grid's seed counts where no rate is chosen.
    assert told["large-lr-regularizes"].count("(3 seeds)") == 4 * 4
    # A quarter of the paper's rate at a quarter of its batch; 60,000 / 128 batches, 12 times.
    assert "| 128 | 0.025 | 5628 | 98.05 ± 0.07 (2 seeds) |" in told["batch-size"]
    assert (
        "| 1024 | 0.2 | 708 | 98.00 (1 seed), 1 diverged | 0.2000 (1 seed) |" in told["batch-size"]
    )


def test_the_table_of_factors_tells_what_tuned_policies_need(tmp_path: Path) -> None:
    here = Trainings(out=tmp_path, train=False)
    ends = {12: 0.99, 25: 0.992}
    for epochs, end in ends.items():
        for seed in (0, 1):
            here.write(result_of(run("one_cycle", 0.1, epochs, seed), end))
        for rate in trainings.RATES:
            here.write(result_of(run("step", rate, epochs, trainings.TUNING_SEED), rate))
        here.write(result_of(run("step", 0.3, epochs, 0), end - 0.001))
    here.write(result_of(run("step", 0.3, 12, 1), 0.1))  # It diverged.
    told = figures.tuned(here)
    # Half of the way from 98.9% to 99.1%, by the logarithm of the epochs.
    assert f"| 0.1 | 12 | 99.00 ± 0.00 (2 seeds) | {(25 / 12) ** 0.5:.1f} |" in told
    # Nothing longer was trained, and one cycle at 0.3 not at all.
    assert "| 0.1 | 25 | 99.20 ± 0.00 (2 seeds) |  |" in told
    assert "| 0.3 | 12 |" not in told
    assert "Not tuned: one cycle in 12 epochs, cosine in 12 epochs" in told


def test_the_rates_that_are_called_tuned_are_the_best_of_the_grid() -> None:
    of_this_clone = Trainings(train=False)
    for policy, rate, lengths in (
        ("step", figures.STEP_LR, (12, 25, 85)),
        ("one_cycle", 0.3, (12, 25)),
    ):
        for epochs in lengths:
            assert of_this_clone.best_lr(policy, epochs)[0] == rate
