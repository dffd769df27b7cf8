"""The trainings of LeNet: the published network and policies, and what is done is not done again."""

from pathlib import Path

import keras
import numpy as np
import pytest

import mnist_lenet

pytestmark = pytest.mark.any_backend


def test_lenet_has_the_parameters_of_caffes() -> None:
    # 20 * 25 + 20, 50 * 20 * 25 + 50, 800 * 500 + 500, 500 * 10 + 10.
    assert mnist_lenet.lenet(5e-4).count_params() == 520 + 25_050 + 400_500 + 5_010


def test_the_penalty_has_a_gradient_of_the_weight_decay_times_the_weights() -> None:
    model = mnist_lenet.lenet(5e-4)
    weights = np.concatenate([variable.numpy().ravel() for variable in model.trainable_variables])
    penalty = sum(float(loss) for loss in model.losses)
    np.testing.assert_allclose(penalty, 5e-4 / 2 * np.sum(weights**2), rtol=1e-5)


def test_caffes_initializer_is_bounded_by_the_root_of_three_over_the_inputs() -> None:
    kernel = np.array(mnist_lenet.lenet(5e-4, "lecun_uniform").layers[0].kernel)
    assert 0.98 * np.sqrt(3 / 25) < np.abs(kernel).max() <= np.sqrt(3 / 25)


def test_inv_is_caffes() -> None:
    steps = np.array([0, 1, 100, 10_000])
    rates = [float(mnist_lenet.Inv(0.01)(step)) for step in steps]
    np.testing.assert_allclose(rates, 0.01 * (1 + 1e-4 * steps) ** -0.75, rtol=1e-6)


def test_a_training_is_planned_written_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist_lenet, "RESULTS", tmp_path)
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    network.add(keras.layers.Dense(10, kernel_initializer="zeros"))
    monkeypatch.setattr(mnist_lenet, "lenet", lambda *arguments: network)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (64, 28, 28), "uint8"), np.arange(64) % 10
    mnist = tmp_path / "mnist.npz"
    np.savez(mnist, x_train=x, y_train=y, x_test=x, y_test=y)

    first = next(iter(mnist_lenet.plan()))
    run = mnist_lenet.one_cycle(0.1, 2, 1.0, seed=0, images=40, batch_size=20)
    assert mnist_lenet.read(run) is None
    result = mnist_lenet.train(run, mnist)
    assert int(network.optimizer.iterations) == 2 * 2
    mnist_lenet.write(result)
    kept = mnist_lenet.read(run)
    assert kept is not None
    assert kept["test_accuracy"] == result["test_accuracy"]
    assert len(kept["test_accuracy"]) == 2

    # The first row of the published table: with all its seeds there, it is read and not trained.
    assert mnist_lenet.accuracies(first.name.removesuffix("-seed=0")).size == 0
    for seed, accuracy in enumerate((0.98, 0.99)):
        mnist_lenet.write(
            {
                "run": {**vars(first), "seed": seed},
                "test_accuracy": [0.1, accuracy],
                "environment": "made up",
            }
        )
    assert (
        "| one cycle 0.01-0.1, 12 epochs | 99.25 ± 0.03 | 98.50 ± 0.71 | 2 |" in mnist_lenet.table()
    )


def test_a_training_that_diverged_is_counted_and_not_averaged() -> None:
    assert mnist_lenet.spread(np.array([99.0, 11.35, 99.2])) == "99.10 ± 0.14 (1 of 3 diverged)"
    assert mnist_lenet.spread(np.array([11.35])) == "diverged"


def test_the_best_rate_waits_for_the_whole_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist_lenet, "RESULTS", tmp_path)
    ends = dict(zip(mnist_lenet.RATES, (0.9, 0.95, 0.93, 0.1), strict=True))
    for rate, end in ends.items():
        assert mnist_lenet.best_rate("step", 12) is None
        run = mnist_lenet.tuned("step", rate, 12, mnist_lenet.TUNING_SEED)
        mnist_lenet.write({"run": vars(run), "test_accuracy": [end], "environment": "made up"})
    assert mnist_lenet.best_rate("step", 12) == 0.03
