"""LeNet on MNIST as in "A disciplined approach to neural network hyper-parameters", arXiv 1803.09820.

Caffe's LeNet: convolutions of 20 and 50 filters of 5x5, each with max-pooling by 2, a dense layer of 500 with
ReLU, one of 10; pixels divided by 256; batches of 512; L2 with a gradient of 5e-4 of the weights, biases too.
Accuracy is that on the 10,000 test images after the last update; no epoch is picked.
"""

import os
import platform
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_onecycle import OneCycle

# Epochs of the cycle's rise, the paper's step size, for epochs of a training.
UP = {12: 5.0, 25: 12.0, 50: 23.0, 85: 40.0}
# Filters of the two convolutions and units of the dense layer; "dense" has no convolutions.
NETWORKS = {"lenet": (20, 50, 500), "half": (10, 25, 250), "dense": (0, 0, 500)}


@dataclass(frozen=True)
class Run:
    """Everything that decides how a training ends.

    Args:
        policy: `"one_cycle"`; `"inv"`, `lr * (1 + 1e-4 * update) ** -0.75`; `"step"`, divided by 10 after
            half and after three quarters; `"cosine"`, to 0 without a warm-up; `"warmup_cosine"`, from a tenth
            up in a tenth of the updates, then to 0.
        lr: The highest learning rate. One cycle begins at a tenth of it.
        epochs: Epochs of the training.
        up: Epochs of one cycle in which the rate rises, the paper's step size.
        momentum: Highest and lowest momentum, the same for no cycle.
        seed: Seed of the weights and of the order of the images.
        weight_decay: What the gradient of the penalty is, in weights.
        images: Training images.
        batch_size: Images in a batch.
        bias_lr: How many times the learning rate the biases have; 2 in Caffe's LeNet.
        initializer: Keras's name of the weights' distribution; `"lecun_uniform"` is Caffe's `xavier`.
        network: A key of `NETWORKS`.
    """

    policy: str
    lr: float
    epochs: int
    seed: int
    up: float = 0.0
    momentum: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 5e-4
    images: int = 60_000
    batch_size: int = 512
    bias_lr: float = 1.0
    initializer: str = "glorot_uniform"
    network: str = "lenet"

    @property
    def name(self) -> str:
        """The name of the file, by what differs from the defaults."""
        parts = [self.policy, f"lr={self.lr:g}", f"epochs={self.epochs}"]
        parts += [f"up={self.up:g}"] if self.policy == "one_cycle" else []
        usual = (0.95, 0.8) if self.policy == "one_cycle" else (0.9, 0.9)
        if self.momentum != usual:
            parts.append("momentum={:g}-{:g}".format(*self.momentum))
        for field in ("weight_decay", "images", "batch_size", "bias_lr"):
            if getattr(self, field) != getattr(Run, field):
                parts.append(f"{field}={getattr(self, field):g}")
        for field in ("initializer", "network"):
            if getattr(self, field) != getattr(Run, field):
                parts.append(f"{field}={getattr(self, field)}")
        return "-".join([*parts, f"seed={self.seed}"])


def run(policy: str, lr: float, epochs: int, seed: int = 0, **changes: Any) -> Run:
    """A training with the paper's momentum and step size."""
    if policy == "one_cycle":
        changes = {"up": UP.get(epochs, 5 * epochs / 12), "momentum": (0.95, 0.8), **changes}
    return Run(policy, lr, epochs, seed, **changes)


@cache
def data(path: Path | None) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """MNIST in memory: images of shape (28, 28, 1) in [0, 1), and digits.

    From a file as `keras.datasets.mnist` has it, or where no path is given from `tensorflow_datasets`.
    """
    if path is not None:
        with np.load(path) as arrays:
            parts = [(arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in ("train", "test")]
    else:
        import tensorflow_datasets as tfds

        splits = (tfds.load("mnist", split=split, batch_size=-1) for split in ("train", "test"))
        parts = [(whole["image"], whole["label"]) for whole in map(tfds.as_numpy, splits)]
    train, test = (
        (x.reshape(-1, 28, 28, 1).astype("float32") / 256, y.astype("int32")) for x, y in parts
    )
    return train, test


def lenet(
    weight_decay: float, initializer: str = Run.initializer, network: str = Run.network
) -> keras.Model:
    """Caffe's LeNet, or one of the other `NETWORKS`."""
    l2 = keras.regularizers.L2(weight_decay / 2)
    penalty = {
        "kernel_regularizer": l2,
        "bias_regularizer": l2,
        "kernel_initializer": initializer,
    }
    *filters, units = NETWORKS[network]
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for number in filter(None, filters):
        model.add(keras.layers.Conv2D(number, 5, **penalty))
        model.add(keras.layers.MaxPooling2D())
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(units, "relu", **penalty))
    model.add(keras.layers.Dense(10, **penalty))
    return model


def compiled(run: Run, rate: Any, momentum: float) -> keras.Model:
    """The network of a training, with SGD."""
    keras.utils.set_random_seed(run.seed)
    model = lenet(run.weight_decay, run.initializer, run.network)
    sgd = keras.optimizers.SGD(rate, momentum)
    if run.bias_lr != 1:
        sgd = BiasSGD(rate, momentum, run.bias_lr)
    model.compile(
        sgd,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=True if torch_compiles(run) else "auto",
    )
    return model


def torch_compiles(run: Run) -> bool:
    """Whether PyTorch is to compile the step: it does so only when told, and not with a cycle."""
    return keras.backend.backend() == "torch" and run.policy != "one_cycle"


def train(run: Run, path: Path | None = None) -> dict[str, Any]:
    """Trains and returns what is kept of it."""
    (x, y), test = data(path)
    x, y = x[: run.images], y[: run.images]
    updates = -(-run.images // run.batch_size) * run.epochs
    schedules = keras.optimizers.schedules
    rate: Any = run.lr
    callbacks: list[keras.callbacks.Callback] = [keras.callbacks.TerminateOnNaN()]
    if run.policy == "inv":
        rate = Inv(run.lr)
    elif run.policy == "step":
        ends = [updates // 2 - 1, 3 * updates // 4 - 1]
        rate = schedules.PiecewiseConstantDecay(ends, [run.lr, run.lr / 10, run.lr / 100])
    elif run.policy == "cosine":
        rate = schedules.CosineDecay(run.lr, updates)
    elif run.policy == "warmup_cosine":
        up = updates // 10
        rate = schedules.CosineDecay(
            run.lr / 10, updates - up, warmup_target=run.lr, warmup_steps=up
        )
    else:
        callbacks.append(one_cycle(run))
    model = compiled(run, rate, run.momentum[0])
    start = time.perf_counter()
    history = model.fit(
        x,
        y,
        batch_size=run.batch_size,
        epochs=run.epochs,
        validation_data=test,
        validation_batch_size=2_000,
        callbacks=callbacks,
        verbose=0,
    ).history
    return {
        "run": asdict(run),
        # JSON has no NaN: a training that diverged has a null.
        "loss": [float(f"{v:.5g}") if np.isfinite(v) else None for v in history["loss"]],
        "test_accuracy": [round(value, 4) for value in history["val_accuracy"]],
        "test_loss": [float(f"{v:.5g}") if np.isfinite(v) else None for v in history["val_loss"]],
        "seconds": round(time.perf_counter() - start),
        "environment": environment() + (", torch.compile" if torch_compiles(run) else ""),
    }


def one_cycle(run: Run, total_steps: int | None = None) -> OneCycle:
    """The cycle of a training."""
    high, low = run.momentum
    return OneCycle(
        run.lr,
        total_steps=total_steps,
        pct_start=run.up / run.epochs,
        max_momentum=high,
        base_momentum=low,
    )


def environment() -> str:
    """What a result should be read with."""
    backend = keras.backend.backend()
    module = __import__(backend)
    device = f"{os.cpu_count()} cores"
    if backend == "jax" and module.default_backend() != "cpu":
        device = module.devices()[0].device_kind
    return (
        f"{backend} {module.__version__}, Keras {keras.__version__}, "
        f"Python {platform.python_version()}, {device}"
    )


class BiasSGD(keras.optimizers.SGD):
    """SGD with so many times the learning rate for biases."""

    def __init__(self, rate: Any, momentum: float, bias_lr: float) -> None:
        super().__init__(rate, momentum)
        self.bias_lr = bias_lr

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        times = self.bias_lr if len(variable.shape) == 1 else 1.0
        super().update_step(gradient, variable, times * learning_rate)


class Inv(keras.optimizers.schedules.LearningRateSchedule):
    """Caffe's `inv` policy with its `gamma` and `power` for LeNet."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr

    def __call__(self, step: Any) -> Any:
        return self.lr * (1 + 1e-4 * keras.ops.cast(step, "float32")) ** -0.75

    def get_config(self) -> dict[str, Any]:
        return {"lr": self.lr}
