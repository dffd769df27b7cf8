"""A classifier of keras-hub with LoRA: most weights are frozen, and stay."""

from typing import Any

import keras
import keras_hub
import numpy as np

import reference
from keras_onecycle import OneCycle, lr_find

EPOCHS, BATCHES, MAX_LR = 2, 6, 0.5
FIT: dict[str, Any] = {"batch_size": 8, "shuffle": False, "verbose": 0}


def classifier(run_eagerly: bool = False) -> keras_hub.models.BertTextClassifier:
    """A small one, of no preset; always with the same weights."""
    keras.utils.set_random_seed(3)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=30,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        dropout=0.0,
        max_sequence_length=6,
    )
    backbone.enable_lora(2)
    model = keras_hub.models.BertTextClassifier(backbone, 3, dropout=0.0)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=run_eagerly,
    )
    return model


def data() -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 30, (8 * BATCHES, 6))
    x = {
        "token_ids": tokens,
        "padding_mask": np.ones_like(tokens),
        "segment_ids": np.zeros_like(tokens),
    }
    return x, tokens[:, 0] % 3


def values(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


class Moved(keras.callbacks.Callback):
    """Keeps the weights as they are before training ends."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.trained = values(self.model.trainable_variables)
        self.frozen = values(self.model.non_trainable_variables)


class ByHand(keras.callbacks.Callback):
    """Sets Python floats, which a step that runs eagerly reads each time."""

    step = 0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        rate, momentum = reference.one_cycle(self.step, EPOCHS * BATCHES, max_lr=MAX_LR)
        optimizer = self.model.optimizer
        optimizer.learning_rate, optimizer.momentum = rate, momentum
        self.step += 1


def test_a_range_test_moves_lora_alone_and_puts_it_back() -> None:
    model, (x, y) = classifier(), data()
    trained, frozen = values(model.trainable_variables), values(model.non_trainable_variables)
    moved = Moved()
    result = lr_find(model, x, y, num_steps=30, callbacks=[moved], **FIT)
    assert len(result.loss) > 10
    lora = [n for n, v in enumerate(model.trainable_variables) if v.name == "lora_kernel_b"]
    assert len(lora) == 4
    assert all(np.any(moved.trained[n] != trained[n]) for n in lora)
    for got, wanted in zip(
        [*moved.frozen, *values(model.non_trainable_variables), *values(model.trainable_variables)],
        [*frozen, *frozen, *trained],
        strict=True,
    ):
        np.testing.assert_array_equal(got, wanted)


def test_one_cycle_is_that_of_an_eager_step() -> None:
    x, y = data()
    model, by_hand = classifier(), classifier(run_eagerly=True)
    frozen = values(model.non_trainable_variables)
    model.fit(x, y, epochs=EPOCHS, callbacks=[OneCycle(MAX_LR)], **FIT)
    by_hand.fit(x, y, epochs=EPOCHS, callbacks=[ByHand()], **FIT)
    reference.assert_same_weights(model, by_hand, rtol=1e-3)
    for got, wanted in zip(values(model.non_trainable_variables), frozen, strict=True):
        np.testing.assert_array_equal(got, wanted)
