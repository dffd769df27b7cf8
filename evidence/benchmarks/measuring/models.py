"""The models that are trained in the benchmarks, with random data for so many batches."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from examples.cifar10.resnet import resnet

CLASSES = 10


@dataclass(eq=False)
class Subject:
    """A model, its weights drawn with the same seed each time, and data for it."""

    name: str
    batch_size: int
    input_shape: tuple[int, ...]

    def layers(self) -> keras.Model:
        """Returns the model, not compiled."""
        raise NotImplementedError

    def model(self, optimizer: keras.Optimizer, **arguments: Any) -> keras.Model:
        """Returns the model, compiled."""
        keras.utils.set_random_seed(0)
        model = self.layers()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy"], **arguments)
        return model

    def data(self, batches: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns inputs and labels."""
        rng = np.random.default_rng(0)
        count = batches * self.batch_size
        x = rng.normal(size=(count, *self.input_shape)).astype("float32")
        return x, rng.integers(0, CLASSES, count).astype("int32")


class ResNet(Subject):
    """ResNet for CIFAR."""

    def __init__(self, depth: int, batch_size: int) -> None:
        super().__init__(f"ResNet-{depth}, batch {batch_size}", batch_size, (32, 32, 3))
        self.depth = depth

    def layers(self) -> keras.Model:
        """Returns the model, not compiled."""
        return resnet(self.depth)


class Dense(Subject):
    """Two hidden layers, as wide as makes about so many parameters."""

    def __init__(self, parameters: int, batch_size: int, inputs: int = 64) -> None:
        super().__init__(f"{parameters:.0e} parameters, batch {batch_size}", batch_size, (inputs,))
        # inputs * units + units ** 2 + CLASSES * units and the biases, solved for `units`.
        linear = inputs + CLASSES + 2
        self.units = round((-linear + (linear**2 + 4 * parameters) ** 0.5) / 2)

    def layers(self) -> keras.Model:
        """Returns the model, not compiled."""
        return keras.Sequential(
            [
                keras.Input(self.input_shape),
                layers.Dense(self.units, "relu"),
                layers.Dense(self.units, "relu"),
                layers.Dense(CLASSES),
            ]
        )


class ManyVariables(Subject):
    """One layer that adds so many small vectors: next to no arithmetic but that of the optimizer."""

    def __init__(self, variables: int, batch_size: int) -> None:
        super().__init__(f"{variables} variables, batch {batch_size}", batch_size, (CLASSES,))
        self.variables = variables

    def layers(self) -> keras.Model:
        """Returns the model, not compiled."""
        return keras.Sequential([keras.Input(self.input_shape), _Sum(self.variables)])


class _Sum(layers.Layer):
    def __init__(self, variables: int) -> None:
        super().__init__()
        self.vectors = [self.add_weight((CLASSES,), name=f"vector_{i}") for i in range(variables)]

    def call(self, x: Any) -> Any:
        return x + sum(vector * 1.0 for vector in self.vectors)
