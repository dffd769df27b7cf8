"""The residual network: He et al.'s counts, a forward pass in NumPy, weight decay, files."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from examples.cifar10.resnet import resnet


def parameters(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)


@pytest.fixture(scope="module")
def of_depth_20() -> keras.Model:
    return resnet(20)


@pytest.mark.any_backend
def test_parameters_are_those_of_the_paper(of_depth_20: keras.Model) -> None:
    smallest, a_block_more = (parameters(resnet(depth)) for depth in (8, 14))
    two_more = parameters(of_depth_20)
    # A block more for each width is always as many parameters more.
    more = a_block_more - smallest
    assert two_more - a_block_more == more
    for depth, millions in ((20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)):
        total = smallest + (depth - 8) // 6 * more
        assert round(total / 1e6, 1 if depth == 110 else 2) == millions


def convolution(x: np.ndarray, kernel: np.ndarray, strides: int) -> np.ndarray:
    """A 3x3 convolution with what TensorFlow calls "same" padding, written out."""
    size = x.shape[1]
    out = -(-size // strides)
    total = max((out - 1) * strides + 3 - size, 0)
    pad = (total // 2, total - total // 2)
    x = np.pad(x, [(0, 0), pad, pad, (0, 0)])
    result = np.zeros((len(x), out, out, kernel.shape[-1]))
    for i in range(3):
        for j in range(3):
            part = x[:, i : i + strides * out : strides, j : j + strides * out : strides]
            result += part[:, :out, :out] @ kernel[i, j]
    return result


def forward(x: np.ndarray, depth: int, weights: Iterator[np.ndarray]) -> np.ndarray:
    """He et al.'s network in NumPy; takes the weights in the order of the layers."""

    def step(x: np.ndarray, strides: int = 1) -> np.ndarray:
        x = convolution(x, next(weights), strides)
        gamma, beta, mean, variance = (next(weights) for _ in range(4))
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    x = np.maximum(step(x), 0)
    for filters in (16, 32, 64):
        for number in range((depth - 2) // 6):
            halves = filters > 16 and number == 0
            shortcut = x
            if halves:
                shortcut = np.zeros((len(x), x.shape[1] // 2, x.shape[2] // 2, filters))
                shortcut[..., : filters // 2] = x[:, ::2, ::2]
            x = np.maximum(step(x, 2 if halves else 1), 0)
            x = np.maximum(step(x) + shortcut, 0)
    return x.mean(axis=(1, 2)) @ next(weights) + next(weights)


@pytest.mark.any_backend
def test_forward_pass_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    model = resnet(14, num_classes=7, input_shape=(8, 8, 3))
    layers = [layer for layer in model.layers if layer.weights]
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    x = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    weights = (weight for layer in layers for weight in layer.get_weights())
    got = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(got, forward(x, 14, weights), rtol=1e-4, atol=1e-4)
    assert next(weights, None) is None


@pytest.mark.any_backend
def test_no_bias_before_batch_normalization_and_he_initialization(
    of_depth_20: keras.Model,
) -> None:
    for layer in of_depth_20.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert not layer.use_bias
    kernels = [np.array(w) for w in of_depth_20.trainable_variables if w.shape == (3, 3, 64, 64)]
    assert len(kernels) == 5
    deviation = np.std(np.concatenate([k.ravel() for k in kernels]))
    assert deviation == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)


def gradient_of_the_losses(model: keras.Model) -> list[Any]:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            total = tf.add_n(model.losses)
        return tape.gradient(total, [v.value for v in model.trainable_variables])
    import jax

    def total(values: list[Any]) -> Any:
        pairs = zip(model.trainable_variables, values, strict=True)
        with keras.StatelessScope(state_mapping=list(pairs)):
            return sum(model.losses)

    return jax.jit(jax.grad(total))([v.value for v in model.trainable_variables])


def test_weight_decay_is_l2_whose_gradient_is_wd_times_w_on_kernels() -> None:
    model = resnet(8, weight_decay=0.3)
    gradients = gradient_of_the_losses(model)
    decayed = 0
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        if variable.name == "kernel":
            np.testing.assert_allclose(np.array(gradient), 0.3 * np.array(variable), rtol=1e-6)
            decayed += 1
        else:
            assert gradient is None or not np.any(np.array(gradient))
    assert decayed == 8
    assert resnet(8, weight_decay=0).losses == []


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_logits_are_float32_under_mixed_precision(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = resnet(8)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.output.dtype == "float32"
    assert model.layers[1].compute_dtype == policy.removeprefix("mixed_")


def test_arguments_reach_the_layers() -> None:
    on_tensorflow = keras.backend.backend() == "tensorflow"
    model = resnet(
        8, num_classes=100, dropout=0.25, batch_norm_momentum=0.95, synchronized=on_tensorflow
    )
    assert model.output_shape == (None, 100)
    (dropout,) = [x for x in model.layers if isinstance(x, keras.layers.Dropout)]
    assert dropout.rate == 0.25
    normalizations = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(normalizations) == 7
    assert all(x.momentum == 0.95 and x.synchronized is on_tensorflow for x in normalizations)


@pytest.mark.any_backend
def test_a_saved_model_is_of_layers_of_keras_alone(tmp_path: Path) -> None:
    model = resnet(8, dropout=0.1, weight_decay=1e-4)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        config = file.read("config.json").decode()
    modules = {name.partition(".")[0] for name in re.findall(r'"module": "(.+?)"', config)}
    assert modules == {"keras"}
    x = np.ones((1, 32, 32, 3))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)


BAD = [
    ("depth", 50.0, TypeError),
    ("depth", 18, ValueError),
    ("depth", 2, ValueError),
    ("depth", -4, ValueError),
    ("num_classes", 0, ValueError),
    ("input_shape", (32, 32), ValueError),
    ("input_shape", (32, 32, 17), ValueError),
    ("input_shape", (2, 32, 3), ValueError),
    ("input_shape", 32, TypeError),
    ("dropout", 1.0, ValueError),
    ("dropout", float("nan"), ValueError),
    ("weight_decay", -1e-4, ValueError),
    ("batch_norm_momentum", 1.0, ValueError),
    ("synchronized", 1, TypeError),
]


@pytest.mark.any_backend
@pytest.mark.parametrize(("name", "value", "error"), BAD)
def test_bad_arguments_are_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        resnet(**{name: value})
