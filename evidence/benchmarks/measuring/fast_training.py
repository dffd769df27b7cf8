"""Trainings at many learning rates with one compiled function: rates and momenta go in as arrays.

The optimizers are written out here; `tests/test_battery.py` holds them against `OneCycle` in `fit`.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from evidence.benchmarks.measuring.battery import LOSSES, TASKS, Case
from keras_onecycle import RangeTestResult
from keras_onecycle.range_tests._short_cycles import MAX_CYCLES, ladder_of
from keras_onecycle.range_tests._stop_rule import LossCurve
from keras_onecycle.schedules import one_cycle_lr, one_cycle_momentum

# What Keras takes where no learning rate is given.
DEFAULT_RATES = {"SGD": 0.01, "Adam": 0.001, "AdamW": 0.001}
_CHUNK = 10
_BETA_2, _EPSILON, _WEIGHT_DECAY = 0.999, 1e-7, 0.004


def one_cycle(updates: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rates as parts of `max_lr`, and momenta, of a cycle with the defaults of `OneCycle`."""
    shape = {
        "total_steps": updates,
        "pct_start": 0.45,
        "anneal_strategy": "linear",
        "three_phase": True,
    }
    steps = np.arange(updates)
    lr = one_cycle_lr(steps, max_lr=1.0, div_factor=10.0, final_div_factor=1e4, **shape)
    return lr, one_cycle_momentum(steps, base_momentum=0.85, max_momentum=0.95, **shape)


class FastTraining:
    """Trains a case from the same weights, with the same batches, as often as asked."""

    def __init__(self, case: Case, seed: int) -> None:
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        self.case, task = case, TASKS[case.task]
        x, y, self.val_x, self.val_y = map(jnp.asarray, task.data(seed))
        self.x, self.y = x, y
        self.model, self._loss = task.network(), LOSSES[task.loss]()
        self._start = (
            [v.value for v in self.model.trainable_variables],
            [v.value for v in self.model.non_trainable_variables],
        )
        rng, orders = np.random.default_rng(seed), []
        batches = len(y) // case.batch_size
        while len(orders) < max(case.updates, 300):
            order = rng.permutation(len(y))[: batches * case.batch_size]
            orders += list(order.reshape(batches, case.batch_size))
        self.batches = np.stack(orders)
        # XLA's convolutions in a loop of its own take fifty times as long.
        convolves = any("conv" in v.path for v in self.model.trainable_variables)
        self._chunks = {
            update: partial(self._one_by_one, jax.jit(update))
            if convolves
            else jax.jit(partial(jax.lax.scan, update))
            for update in (self._update, self._schedule_free_update)
        }
        self._evaluate = jax.jit(self._val_loss)

    def _losses(self, weights: Any, state: Any, x: Any, y: Any, training: bool) -> tuple[Any, Any]:
        outputs, state, penalties = self.model.stateless_call(
            weights, state, x, training=training, return_losses=True
        )
        return self._loss(y, outputs) + sum(penalties), (state, outputs)

    def _val_loss(self, weights: Any, state: Any) -> tuple[Any, Any]:
        loss, (_, outputs) = self._losses(weights, state, self.val_x, self.val_y, False)
        if TASKS[self.case.task].loss != "classes":
            return loss, jnp.nan
        return loss, jnp.mean(jnp.argmax(outputs, axis=-1) == self.val_y)

    @staticmethod
    def _one_by_one(update: Any, carry: Any, what: Any) -> Any:
        losses = []
        for one in zip(*what, strict=True):
            carry, loss = update(carry, one)
            losses.append(loss)
        return carry, losses

    def _gradients(self, weights: Any, state: Any, batch: Any) -> Any:
        return jax.value_and_grad(self._losses, has_aux=True)(
            weights, state, self.x[batch], self.y[batch], True
        )

    def _update(self, carry: Any, what: Any) -> Any:
        adam = self.case.optimizer != "SGD"
        decay = _WEIGHT_DECAY if self.case.optimizer == "AdamW" else 0.0

        weights, state, m, v = carry
        batch, lr, momentum, t = what
        (loss, (state, _)), grads = self._gradients(weights, state, batch)
        if adam:
            weights = [w - w * decay * lr for w in weights]
            alpha = lr * jnp.sqrt(1 - _BETA_2**t) / (1 - momentum**t)
            m = [a + (g - a) * (1 - momentum) for a, g in zip(m, grads, strict=True)]
            v = [a + (g * g - a) * (1 - _BETA_2) for a, g in zip(v, grads, strict=True)]
            weights = [
                w - alpha * a / (jnp.sqrt(b) + _EPSILON)
                for w, a, b in zip(weights, m, v, strict=True)
            ]
        else:
            m = [momentum * a - lr * g for a, g in zip(m, grads, strict=True)]
            weights = [w + a for w, a in zip(weights, m, strict=True)]
        return (weights, state, m, v), loss

    def _schedule_free_update(self, carry: Any, what: Any) -> Any:
        """Keras's `ScheduleFreeAdamW`: what is evaluated lies between the mean `x` and the newest `z`."""
        weights, state, z, v = carry
        batch, lr, beta_1, t = what
        (loss, (state, _)), grads = self._gradients(weights, state, batch)
        x = [(w - (1 - beta_1) * a) / beta_1 for w, a in zip(weights, z, strict=True)]
        v = [b + (g * g - b) * (1 - _BETA_2) for b, g in zip(v, grads, strict=True)]
        z = [
            a - lr * g / (jnp.sqrt(b / (1 - _BETA_2**t)) + 1e-8)
            for a, b, g in zip(z, v, grads, strict=True)
        ]
        x = [b + (a - b) / t for a, b in zip(z, x, strict=True)]
        weights = [(1 - beta_1) * a + beta_1 * b for a, b in zip(z, x, strict=True)]
        return (weights, state, z, v), loss

    def schedule_free(self) -> dict[str, Any]:
        """Trains with `ScheduleFreeAdamW()`, its learning rate and momentum as they come."""
        ones = np.ones(self.case.updates)
        start = (*self._start, self._start[0], [jnp.zeros_like(w) for w in self._start[0]])
        return self._run(self._schedule_free_update, start, 0.0025 * ones, 0.9 * ones)

    def train(
        self, rates: np.ndarray, momenta: np.ndarray, evaluate: bool = True
    ) -> dict[str, Any]:
        """Returns the loss of each batch, and at the end validation loss and accuracy."""
        zeros = [jnp.zeros_like(w) for w in self._start[0]]
        return self._run(self._update, (*self._start, zeros, zeros), rates, momenta, evaluate)

    def _run(
        self,
        update: Any,
        carry: Any,
        rates: np.ndarray,
        momenta: np.ndarray,
        evaluate: bool = True,
    ) -> dict[str, Any]:
        losses: list[float] = []
        for first in range(0, len(rates), _CHUNK):
            part = slice(first, first + _CHUNK)
            what = (
                self.batches[: len(rates)][part],
                rates[part].astype("float32"),
                momenta[part].astype("float32"),
                np.arange(len(rates))[part].astype("float32") + 1,
            )
            carry, loss = self._chunks[update](carry, what)
            losses += [float(value) for value in loss]
            if not math.isfinite(losses[-1]):
                return {"loss": losses, "val_loss": math.nan, "val_accuracy": math.nan}
        val_loss, accuracy = self._evaluate(*carry[:2]) if evaluate else (math.nan, math.nan)
        return {"loss": losses, "val_loss": float(val_loss), "val_accuracy": float(accuracy)}

    def cycle(
        self, max_lr: float, updates: int | None = None, evaluate: bool = True
    ) -> dict[str, Any]:
        """Trains one cycle."""
        lr, momentum = one_cycle(updates or self.case.updates)
        return self.train(max_lr * lr, momentum, evaluate)

    def loss_before(self) -> float:
        """Returns the validation loss before any training."""
        return float(self._evaluate(*self._start)[0])

    def lr_find(self) -> RangeTestResult:
        """Returns what `lr_find` does with its defaults: range test and short cycles."""
        updates, cycle_steps = 100, 50
        rates = 1e-6 * 1e7 ** (np.arange(updates) / (updates - 1))
        curve = LossCurve(updates, 0.98, 4.0)
        for step, loss in enumerate(self.train(rates, np.full(updates, 0.9), False)["loss"]):
            curve.add(step, loss)
            if curve.stop_reason():
                break
        result = RangeTestResult(rates[: len(curve.loss)], curve.loss, curve.smoothed)
        ladder = ladder_of(result)
        while ladder and len(ladder.lr) < MAX_CYCLES and (rate := ladder.next()):
            loss = self.cycle(rate, cycle_steps, False)["loss"]
            ladder.add(
                rate,
                np.mean(loss[-20:])
                if len(loss) == cycle_steps and math.isfinite(loss[-1])
                else math.inf,
            )
        return replace(result, cycle_lr=ladder.lr, cycle_loss=ladder.loss) if ladder else result
