"""Caffe's doubled learning rate for biases, by the weights."""

import numpy as np

from evidence.reproduction.mnist_lenet import lenet
from evidence.reproduction.mnist_lenet.lenet import run
from keras_onecycle import OneCycle


def test_biases_take_steps_of_their_own_rate() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 28, 28, 1), "float32"), np.arange(8)
    steps = []
    for bias_lr in (1.0, 2.0):
        one = run("one_cycle", 0.1, 1, bias_lr=bias_lr, network="dense")
        model = lenet.compiled(one, one.lr, 0.9)
        before = model.get_weights()
        with OneCycle(0.1, total_steps=10).attach(model):
            model.train_on_batch(x, y)
        steps.append([b - a for a, b in zip(before, model.get_weights(), strict=True)])
    for number, (once, again) in enumerate(zip(*steps, strict=True)):
        assert np.abs(once).max() > 1e-4
        # Kernels and biases take turns.
        np.testing.assert_allclose(again, (1 + number % 2) * once, rtol=1e-3, atol=1e-6)
