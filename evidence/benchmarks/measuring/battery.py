"""What people train, in small, without network: one part to find a rule, the other to judge it once.

`FIND` and `JUDGE` were written down before any training of `JUDGE` at a suggested rate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pydoc_data import topics
from typing import Any

import keras
import numpy as np
from keras import layers
from sklearn import datasets

Arrays = tuple[Any, Any, Any, Any]


@dataclass(frozen=True)
class Task:
    """Data, `(x, y, validation x, validation y)` of a seed, and a network with its loss."""

    data: Callable[[int], Arrays]
    network: Callable[[], keras.Model]
    loss: str = "classes"


@dataclass(frozen=True)
class Case:
    """A task with an optimizer, a batch size, and a number of updates."""

    task: str
    optimizer: str
    batch_size: int
    updates: int

    @property
    def name(self) -> str:
        """The name that results are filed by."""
        return f"{self.task}, {self.optimizer}, {self.batch_size}"


LOSSES: dict[str, Callable[[], keras.losses.Loss]] = {
    "classes": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "rare": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    "numbers": keras.losses.MeanSquaredError,
}


def split(x: Any, y: Any, seed: int, train: int, validate: int) -> Arrays:
    """Returns so many rows to train on and so many others."""
    order = np.random.default_rng(seed).permutation(len(y))[: train + validate]
    a, b = order[:train], order[train:]
    return x[a], y[a], x[b], y[b]


def standardised(x: np.ndarray) -> np.ndarray:
    """Returns columns of mean 0 and deviation 1."""
    deviation = x.std(axis=0)
    return ((x - x.mean(axis=0)) / np.where(deviation, deviation, 1)).astype("float32")


@cache
def mnist(images: int) -> Arrays:
    """Returns so many images to train on and 2,000 to validate."""
    # Imports TensorFlow's data sets, which only these tasks need.
    from evidence.reproduction.mnist_lenet import trainings

    (x, y), (val_x, val_y) = trainings.data(None)
    return x[:images], y[:images], val_x[:2000], val_y[:2000]


@cache
def cifar(images: int) -> Arrays:
    """Returns so many images of CIFAR-10 to train on and 2,000 to validate."""
    from evidence.benchmarks.measuring import tasks

    (x, y), (val_x, val_y) = tasks.cifar(images)
    return x, y, val_x[:2000], val_y[:2000]


@cache
def text(length: int) -> Arrays:
    """Returns stretches of the language reference that every Python ships, and the character after each."""
    written = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    written = written.encode("ascii", "replace").decode()
    known = sorted(set(written))
    codes = np.array([known.index(c) for c in written], dtype="int32")
    rows = len(codes) // (length + 1)
    rows = codes[: rows * (length + 1)].reshape(rows, length + 1)
    rows = np.random.default_rng(0).permutation(rows)
    x, y = rows[:, :-1], rows[:, 1:]
    return x[:-500], y[:-500], x[-500:], y[-500:]


CHARACTERS = 128


def digit_rows(seed: int) -> Arrays:
    """Returns digits as sequences of eight rows."""
    x, y = datasets.load_digits(return_X_y=True)
    return split((x / 16).reshape(-1, 8, 8).astype("float32"), y.astype("int32"), seed, 1200, 597)


@cache
def diamond_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns numbers, cuts and prices of the diamonds."""
    from plotnine.data import diamonds

    rows = diamonds.sample(20_000, random_state=0)
    cut, price = rows["cut"].cat.codes.to_numpy("int32"), rows["price"].to_numpy("float32")
    rows = rows.drop(columns=["cut", "price"])
    for name in ("color", "clarity"):
        rows[name] = rows[name].cat.codes
    return standardised(rows.to_numpy("float32")), cut, price[:, None]


def price(seed: int) -> Arrays:
    """Returns the logarithm of the diamonds' prices, standardised."""
    x, _, y = diamond_table()
    return split(x, standardised(np.log(y)), seed, 10_000, 4000)


def raw_price(seed: int) -> Arrays:
    """Returns the diamonds' prices in dollars."""
    x, _, y = diamond_table()
    return split(x, y, seed, 10_000, 4000)


def cut(seed: int) -> Arrays:
    """Returns the diamonds' cuts."""
    x, y, prices = diamond_table()
    return split(np.hstack([x, standardised(prices)]), y, seed, 10_000, 4000)


def ratings(seed: int) -> Arrays:
    """Returns what 500 users say of 300 things: five hidden tastes and noise."""
    rng = np.random.default_rng(seed)
    users, things = rng.normal(size=(500, 5)), rng.normal(size=(300, 5))
    x = np.stack([rng.integers(0, 500, 24_000), rng.integers(0, 300, 24_000)], axis=1)
    y = (users[x[:, 0]] * things[x[:, 1]]).sum(axis=1) / 5**0.5
    y = (y + 0.3 * rng.normal(size=len(y))).astype("float32")[:, None]
    return split(x.astype("int32"), y, seed, 20_000, 4000)


def pixels(seed: int) -> Arrays:
    """Returns pixels of digits, by the number of the image and the place."""
    images = datasets.load_digits().data[:500] / 8 - 1
    image, place = np.divmod(np.random.default_rng(seed).permutation(images.size), 64)
    x = np.stack([image, place], axis=1).astype("int32")
    return split(x, images[image, place].astype("float32")[:, None], seed, 24_000, 8000)


def picture(seed: int) -> Arrays:
    """Returns the colours of a photograph by the place."""
    image = datasets.load_sample_image("china.jpg")[::4, ::4] / 255.0
    rows, columns = np.indices(image.shape[:2])
    x = np.stack([rows / rows.max(), columns / columns.max()], axis=-1).reshape(-1, 2) * 2 - 1
    y = image.reshape(-1, 3)
    return split(x.astype("float32"), y.astype("float32"), seed, 12_000, 4000)


def friedman(seed: int) -> Arrays:
    """Returns Friedman's first function, its values as they are."""
    x, y = datasets.make_friedman1(8000, noise=1.0, random_state=seed)
    return split(x.astype("float32"), y.astype("float32")[:, None], seed, 6000, 2000)


def diabetes(seed: int) -> Arrays:
    """Returns the progress of diabetes, from 25 to 346."""
    x, y = datasets.load_diabetes(return_X_y=True)
    return split(standardised(x), y.astype("float32")[:, None], seed, 300, 142)


def breast_cancer(seed: int) -> Arrays:
    """Returns benign and malign tumours."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return split(standardised(x), y.astype("int32"), seed, 369, 200)


def rare(seed: int) -> Arrays:
    """Returns an event of which there is one in fifty rows."""
    x, y = datasets.make_classification(
        20_000, 20, n_informative=8, weights=[0.98], flip_y=0.002, class_sep=1.5, random_state=seed
    )
    return split(standardised(x), y.astype("float32")[:, None], seed, 12_000, 8000)


def houses(seed: int) -> Arrays:
    """Returns median prices of houses in Texas in dollars, by month and town."""
    from plotnine.data import txhousing

    rows = txhousing.dropna()
    x = rows[["year", "month", "sales", "listings", "inventory"]].to_numpy("float32")
    towns = np.eye(rows["city"].nunique(), dtype="float32")[
        rows["city"].astype("category").cat.codes
    ]
    y = rows["median"].to_numpy("float32")[:, None]
    return split(np.hstack([standardised(x), towns]), y, seed, 5000, 2000)


def friedman_2(seed: int) -> Arrays:
    """Returns Friedman's second function, its values, from 0 to 1,800, as they are."""
    x, y = datasets.make_friedman2(8000, noise=10.0, random_state=seed)
    return split(standardised(x), y.astype("float32")[:, None], seed, 6000, 2000)


def digits(seed: int) -> Arrays:
    """Returns images of 8 by 8 pixels."""
    x, y = datasets.load_digits(return_X_y=True)
    return split((x / 16).astype("float32"), y.astype("int32"), seed, 1200, 597)


def several_labels(seed: int) -> Arrays:
    """Returns rows with any number of eight labels."""
    x, y = datasets.make_multilabel_classification(
        10_000, 40, n_classes=8, n_labels=3, random_state=seed
    )
    return split(standardised(x), y.astype("float32"), seed, 8000, 2000)


def spirals(seed: int) -> Arrays:
    """Returns points on two spirals."""
    rng = np.random.default_rng(seed)
    turn, y = 3 * np.pi * np.sqrt(rng.uniform(0.05, 1, 8000)), rng.integers(0, 2, 8000)
    angle = turn + np.pi * y
    x = turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) / 9
    x += rng.normal(scale=0.02, size=x.shape)
    return split(x.astype("float32"), y.astype("int32"), seed, 6000, 2000)


def words(seed: int) -> Arrays:
    """Returns pairs of words of the language reference: neighbours, or drawn at random."""
    rng = np.random.default_rng(seed)
    written = " ".join(topics.topics[name] for name in sorted(topics.topics)).lower().split()
    known, counts = np.unique(written, return_counts=True)
    common = {word: n for n, word in enumerate(known[np.argsort(-counts)][:500])}
    codes = np.array([common[word] for word in written if word in common], dtype="int32")
    near = np.stack([codes[:-1], codes[1:]], axis=1)
    far = np.stack([codes[:-1], rng.permutation(codes[1:])], axis=1)
    x, y = np.vstack([near, far]), np.repeat([1, 0], len(near)).astype("float32")[:, None]
    return split(x, y, seed, 40_000, 8000)


def copies(seed: int) -> Arrays:
    """Returns images of MNIST as targets of themselves."""
    x, _, val_x, _ = mnist(5000)
    x, val_x = (part.reshape(len(part), -1) for part in (x, val_x))
    return x, x, val_x, val_x


def five_to_nine(seed: int) -> Arrays:
    """Returns few images of the digits that the network has not seen."""
    x, y, val_x, val_y = mnist(6000)
    late, val_late = y >= 5, val_y >= 5
    return x[late][:1000], y[late][:1000] - 5, val_x[val_late], val_y[val_late] - 5


def unsorted(seed: int) -> Arrays:
    """Returns sequences of twelve numbers, and the same in order."""
    x = np.random.default_rng(seed).integers(0, 16, (10_000, 12)).astype("int32")
    y = np.sort(x, axis=1)
    return x[:9000], y[:9000], x[9000:], y[9000:]


def sequential(shape: tuple[int, ...], *hidden: keras.layers.Layer) -> keras.Model:
    """Returns a network of these layers."""
    return keras.Sequential([keras.Input(shape), *hidden])


def dense(inputs: tuple[int, ...], *units: int, activation: str = "relu") -> keras.Model:
    """Returns dense layers, the last of them linear."""
    flat = [layers.Flatten()] if len(inputs) > 1 else []
    hidden = [layers.Dense(n, activation) for n in units[:-1]]
    return sequential(inputs, *flat, *hidden, layers.Dense(units[-1]))


def lenet() -> keras.Model:
    """Returns LeNet-5, with ReLU."""
    hidden = []
    for filters in (6, 16):
        hidden += [layers.Conv2D(filters, 5, activation="relu"), layers.MaxPooling2D()]
    dense_layers = [layers.Dense(units, "relu") for units in (120, 84)]
    return sequential((28, 28, 1), *hidden, layers.Flatten(), *dense_layers, layers.Dense(10))


def small_cnn(shape: tuple[int, ...]) -> keras.Model:
    """Returns three convolutions with batch normalization, each at half the resolution."""
    hidden: list[keras.layers.Layer] = []
    for filters in (16, 32, 64):
        hidden += [
            layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]
    return sequential(shape, *hidden, layers.GlobalAveragePooling2D(), layers.Dense(10))


def resnet() -> keras.Model:
    """Returns the residual network of He et al. with 8 layers."""
    from examples.cifar10.resnet import resnet

    return resnet(8)


def recurrent(layer: type[keras.layers.Layer], units: int) -> keras.Model:
    """Returns a recurrent network of characters."""
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(CHARACTERS, 32),
            layer(units, return_sequences=True),
            layers.Dense(CHARACTERS),
        ]
    )


def text_cnn() -> keras.Model:
    """Returns causal convolutions over characters."""
    hidden = [
        layers.Conv1D(64, 3, padding="causal", dilation_rate=2**n, activation="relu")
        for n in range(3)
    ]
    return keras.Sequential(
        [
            keras.Input((32,), dtype="int32"),
            layers.Embedding(CHARACTERS, 32),
            *hidden,
            layers.Dense(CHARACTERS),
        ]
    )


def lstm_of_rows() -> keras.Model:
    """Returns an LSTM over the rows of a digit."""
    return sequential((8, 8), layers.LSTM(64), layers.Dense(10))


class Positions(layers.Layer):
    """Adds a vector that is learnt for each position."""

    def build(self, shape: Any) -> None:
        """Makes the vectors."""
        self.vectors = self.add_weight(shape[1:], initializer="random_normal", name="positions")

    def call(self, x: Any) -> Any:
        """Adds them."""
        return x + self.vectors


def block(x: Any, width: int, *, causal: bool, before: bool) -> Any:
    """Adds a block of a Transformer, normalized before or after each part."""

    def attend(part: Any) -> Any:
        return layers.MultiHeadAttention(4, width // 4)(part, part, use_causal_mask=causal)

    def feed(part: Any) -> Any:
        return layers.Dense(width)(layers.Dense(4 * width, "gelu")(part))

    for part in (attend, feed):
        norm = layers.LayerNormalization()
        x = x + part(norm(x)) if before else norm(x + part(x))
    return x


def text_transformer(width: int, blocks: int, before: bool) -> keras.Model:
    """Returns a Transformer that predicts the next character."""
    inputs = keras.Input((32,), dtype="int32")
    x = Positions()(layers.Embedding(CHARACTERS, width)(inputs))
    for _ in range(blocks):
        x = block(x, width, causal=True, before=before)
    if before:
        x = layers.LayerNormalization()(x)
    return keras.Model(inputs, layers.Dense(CHARACTERS)(x))


def sorting_transformer() -> keras.Model:
    """Returns a Transformer that puts numbers in order, normalized after each part."""
    inputs = keras.Input((12,), dtype="int32")
    x = Positions()(layers.Embedding(16, 48)(inputs))
    for _ in range(2):
        x = block(x, 48, causal=False, before=False)
    return keras.Model(inputs, layers.Dense(16)(x))


def vision_transformer() -> keras.Model:
    """Returns a Transformer over the patches of an image of MNIST."""
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(48, 7, strides=7)(inputs)
    x = Positions()(layers.Reshape((16, 48))(x))
    for _ in range(2):
        x = block(x, 48, causal=False, before=True)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def recommender(rows: int, columns: int) -> keras.Model:
    """Returns two embeddings and their product."""
    inputs = keras.Input((2,), dtype="int32")
    user = layers.Embedding(rows, 16)(inputs[:, 0])
    thing = layers.Embedding(columns, 16)(inputs[:, 1])
    return keras.Model(inputs, layers.Dot(1)([user, thing]))


def pretrained() -> keras.Model:
    """Returns a network that knows the digits up to 4, with a new last layer."""
    x, y, _, _ = mnist(6000)
    early = y < 5
    base = small_cnn((28, 28, 1))
    base.compile(keras.optimizers.Adam(0.003), LOSSES["classes"]())
    base.fit(x[early][:2000], y[early][:2000], epochs=3, batch_size=32, verbose=0)
    return keras.Model(base.inputs, layers.Dense(5)(base.layers[-2].output))


TASKS: dict[str, Task] = {
    # To find the rule.
    "MNIST, LeNet": Task(lambda seed: mnist(5000), lenet),
    "MNIST, five dense layers": Task(
        lambda seed: mnist(5000), lambda: dense((28, 28, 1), 64, 64, 64, 64, 64, 10)
    ),
    "CIFAR-10, small CNN": Task(lambda seed: cifar(2000), lambda: small_cnn((32, 32, 3))),
    "text, GRU": Task(lambda seed: text(32), lambda: recurrent(layers.GRU, 64)),
    "text, Transformer": Task(lambda seed: text(32), lambda: text_transformer(48, 2, True)),
    "rows of digits, LSTM": Task(digit_rows, lstm_of_rows),
    "price, standardised": Task(price, lambda: dense((8,), 64, 64, 1), "numbers"),
    "price, raw": Task(raw_price, lambda: dense((8,), 64, 64, 1), "numbers"),
    "ratings": Task(ratings, lambda: recommender(500, 300), "numbers"),
    "picture": Task(picture, lambda: dense((2,), 64, 64, 64, 3), "numbers"),
    "text, LSTM": Task(lambda seed: text(32), lambda: recurrent(layers.LSTM, 48)),
    "cut": Task(cut, lambda: dense((9,), 64, 64, 5)),
    "breast cancer": Task(breast_cancer, lambda: dense((30,), 32, 32, 2)),
    "Friedman, raw": Task(friedman, lambda: dense((10,), 64, 64, 1), "numbers"),
    "diabetes, raw": Task(diabetes, lambda: dense((10,), 32, 1), "numbers"),
    "rare event": Task(rare, lambda: dense((20,), 64, 64, 1), "rare"),
    "autoencoder": Task(copies, lambda: dense((784,), 128, 32, 128, 784), "numbers"),
    "pixels": Task(pixels, lambda: recommender(500, 64), "numbers"),
    # To judge it.
    "CIFAR-10, ResNet-8": Task(lambda seed: cifar(2000), resnet),
    "MNIST, small CNN": Task(lambda seed: mnist(5000), lambda: small_cnn((28, 28, 1))),
    "MNIST, Vision Transformer": Task(lambda seed: mnist(5000), vision_transformer),
    "text, CNN": Task(lambda seed: text(32), text_cnn),
    "sorting, Transformer": Task(unsorted, sorting_transformer),
    "fine-tuning": Task(five_to_nine, pretrained),
    "houses, raw": Task(houses, lambda: dense((51,), 64, 64, 1), "numbers"),
    "Friedman 2, raw": Task(friedman_2, lambda: dense((4,), 64, 64, 1), "numbers"),
    "digits": Task(digits, lambda: dense((64,), 64, 64, 10)),
    "several labels": Task(several_labels, lambda: dense((40,), 64, 64, 8), "rare"),
    "spirals": Task(spirals, lambda: dense((2,), 32, 32, 32, 2, activation="tanh")),
    "words": Task(words, lambda: recommender(500, 500), "rare"),
}

FIND = [
    Case("MNIST, LeNet", "SGD", 16, 300),
    Case("MNIST, LeNet", "SGD", 128, 200),
    Case("MNIST, LeNet", "AdamW", 256, 200),
    Case("MNIST, five dense layers", "SGD", 32, 320),
    Case("MNIST, five dense layers", "Adam", 64, 1000),
    Case("CIFAR-10, small CNN", "SGD", 32, 300),
    Case("CIFAR-10, small CNN", "AdamW", 64, 300),
    Case("text, GRU", "AdamW", 32, 350),
    Case("text, GRU", "SGD", 32, 350),
    Case("text, Transformer", "AdamW", 16, 400),
    Case("text, Transformer", "Adam", 32, 600),
    Case("rows of digits, LSTM", "AdamW", 32, 450),
    Case("rows of digits, LSTM", "SGD", 32, 450),
    Case("price, standardised", "Adam", 128, 500),
    Case("price, standardised", "SGD", 16, 1000),
    Case("price, raw", "Adam", 128, 500),
    Case("price, raw", "AdamW", 512, 300),
    Case("ratings", "AdamW", 64, 470),
    Case("ratings", "SGD", 64, 470),
    Case("picture", "Adam", 256, 500),
    Case("picture", "SGD", 64, 1000),
    Case("text, LSTM", "AdamW", 32, 350),
    Case("text, LSTM", "Adam", 16, 500),
    Case("cut", "SGD", 16, 600),
    Case("cut", "AdamW", 512, 300),
    Case("breast cancer", "SGD", 16, 230),
    Case("breast cancer", "AdamW", 16, 230),
    Case("Friedman, raw", "Adam", 64, 500),
    Case("Friedman, raw", "SGD", 64, 500),
    Case("diabetes, raw", "Adam", 16, 300),
    Case("rare event", "AdamW", 64, 400),
    Case("rare event", "SGD", 128, 400),
    Case("autoencoder", "Adam", 64, 400),
    Case("autoencoder", "SGD", 64, 400),
    Case("pixels", "AdamW", 64, 750),
    Case("pixels", "SGD", 64, 750),
    Case("cut", "Adam", 64, 2000),
]

JUDGE = [
    Case("CIFAR-10, ResNet-8", "SGD", 32, 300),
    Case("CIFAR-10, ResNet-8", "AdamW", 32, 300),
    Case("MNIST, small CNN", "SGD", 64, 300),
    Case("MNIST, small CNN", "Adam", 64, 300),
    Case("MNIST, Vision Transformer", "AdamW", 64, 300),
    Case("MNIST, Vision Transformer", "Adam", 32, 600),
    Case("text, CNN", "AdamW", 32, 350),
    Case("text, CNN", "SGD", 32, 350),
    Case("sorting, Transformer", "AdamW", 64, 600),
    Case("fine-tuning", "SGD", 32, 200),
    Case("fine-tuning", "Adam", 32, 200),
    Case("houses, raw", "Adam", 64, 400),
    Case("Friedman 2, raw", "SGD", 64, 500),
    Case("Friedman 2, raw", "AdamW", 32, 400),
    Case("digits", "SGD", 32, 300),
    Case("digits", "AdamW", 128, 300),
    Case("several labels", "Adam", 64, 400),
    Case("spirals", "SGD", 32, 600),
    Case("spirals", "Adam", 64, 500),
    Case("words", "AdamW", 256, 600),
]
