"""The residual network: He et al.'s counts, the same steps in PyTorch, weight decay, files."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from examples.cifar10.resnet import resnet


def parameters(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)


PYTORCH = Path(__file__).parent / "references" / "pytorch_resnet.json"


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


def norms(model: keras.Model) -> list[float]:
    """Returns the norms of all weights in PyTorch's order: layer by layer, averages after the weights."""
    return [
        float(np.linalg.norm(weight.astype("float64")))
        for layer in model.layers
        for weight in layer.get_weights()
    ]


def test_steps_are_pytorchs() -> None:
    """Logits and norms of all weights, of the same network trained in plain PyTorch."""
    (wanted,) = json.loads(PYTORCH.read_text(encoding="utf-8"))["cases"]
    settings = wanted["settings"]
    model = resnet(8, weight_decay=settings["weight_decay"])
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            filters = layer.gamma.shape
            new = [rng.uniform(0.5, 1.5, filters), rng.uniform(-0.5, 0.5, filters)]
            layer.set_weights([*new, *layer.get_weights()[2:]])
        elif layer.weights:
            kernel, *bias = layer.get_weights()
            new = 0.1 * rng.standard_normal(kernel.shape)
            layer.set_weights([new, *bias])
    x = rng.standard_normal((4, 16, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, (4, 16))

    def logits() -> np.ndarray:
        return keras.ops.convert_to_numpy(model(x[0], training=False))

    np.testing.assert_allclose(logits(), wanted["before"]["logits"], rtol=1e-4, atol=1e-5)
    model.compile(
        keras.optimizers.SGD(settings["learning_rate"], momentum=settings["momentum"]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for batch in zip(x, y, strict=True):
        model.train_on_batch(*batch)
    # PyTorch's and TensorFlow's moving variance has n - 1 in place of n, of 1,024 values at last.
    np.testing.assert_allclose(logits(), wanted["after"]["logits"], rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(norms(model), wanted["after"]["norms"], rtol=2e-3, atol=1e-3)


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
def test_a_saved_model_is_loaded(tmp_path: Path) -> None:
    model = resnet(8, dropout=0.1, weight_decay=1e-4)
    model.save(tmp_path / "model.keras")
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
