"""Schedules on the optimizer of a model, or on each part of a `MultiOptimizer`, for the time of one `fit`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_onecycle._arguments import check_compiled
from keras_onecycle._keras import backend
from keras_onecycle._keras.compiled_step import compile_step
from keras_onecycle._keras.derived_optimizer import DerivedOptimizer
from keras_onecycle._keras.optimizer_traits import (
    batches_per_update,
    check_schedulable,
    counter_of,
    has_momentum,
    momentum_names,
    parts_of,
    relative_rates,
    unwrap,
)
from keras_onecycle._keras.running_fit import RunningFit
from keras_onecycle.schedules import Schedule, scaled


class Attachment:
    """Makes hyperparameters of an optimizer follow schedules, each step, inside the compiled step.

    A step is an update: under gradient accumulation several batches make one, and an update that loss
    scaling skips is none.

    Args:
        target: A compiled `keras.Model`, or a `keras.Optimizer`. With a model, its compiled train
            step is traced anew; with an optimizer alone, attach before your own step is traced.
        schedules: Dict of functions of the step, by the name of the float attribute that follows
            them: `"learning_rate"`, `"weight_decay"`, `"beta_2"`. `"momentum"` stands for whatever
            the optimizer calls it (`momentum`, `beta_1`, and both in `Muon`).
        owner: String that errors name.
        rates: Dict by key, or list with the default's last, of the learning rates that the parts of a
            `MultiOptimizer` have beside each other. Defaults to `None`: their own.
        optional: Names of schedules that a part may lack.
    """

    def __init__(
        self,
        target: keras.Model | keras.Optimizer,
        schedules: Mapping[str, Schedule],
        owner: str,
        *,
        rates: Mapping[str, float] | Sequence[float] | None = None,
        optional: Sequence[str] = (),
    ) -> None:
        self.model: Any = target if isinstance(target, keras.Model) else None
        optimizer = target
        if self.model is not None:
            optimizer = check_compiled("model", target).optimizer
            backend.check_compile(target)
        self.optimizer = check_schedulable(optimizer)
        self.counter = counter_of(self.optimizer)
        self.owner = owner
        self.attached = False
        self._fit: RunningFit | None = None
        self._relative_rates = relative_rates(self.optimizer, rates)
        self._parts = {
            key: DerivedOptimizer(part, self._attributes(part, schedules, optional), owner)
            for key, part in parts_of(self.optimizer).items()
        }
        self._start = 0
        self.plan(schedules, 0)
        self._check_free()

    def plan(self, schedules: Mapping[str, Schedule], start: int) -> None:
        """Sets the schedules, and the number of updates made at step 0, until a step is traced."""
        self._schedules, self._start = schedules, start
        batches, per_update = self.batches(), batches_per_update(self.optimizer)
        for key, part in self._parts.items():
            of_part = dict(schedules)
            if "learning_rate" in schedules:
                rate = scaled(schedules["learning_rate"], self._relative_rates[key])
                of_part["learning_rate"] = rate
            # A part of a `MultiOptimizer` counts for itself, and may have been in use before.
            part.plan(of_part, start + (part.batches() - batches) // per_update)

    @property
    def traced(self) -> bool:
        """Whether a step was traced that follows the schedules."""
        return any(part.traced for part in self._parts.values())

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedules by name; those of a part of a `MultiOptimizer` with its key in brackets."""
        return {
            _name(name, key): schedule
            for key, part in self._training().items()
            for name, schedule in part.schedules.items()
        }

    def attach(
        self,
        at_next_fit: Callable[[], None] | None = None,
        compile_step: Callable[[keras.Model], None] = compile_step,
    ) -> None:
        """Makes the optimizer follow the schedules; the next update is step 0.

        An exception in `fit` leaves a callback no chance: then the model's next `fit` calls `at_next_fit`.
        """
        self._check_free()
        self.plan(self._schedules, self.iterations())
        for part in self._parts.values():
            part.attach(self)
        self.attached = True
        if self.model is not None:
            self._compile_step = compile_step
            compile_step(self.model)
            if at_next_fit is not None:
                self._fit, self._at_next_fit = RunningFit(), at_next_fit
            vars(self.model)["make_train_function"] = self._make_train_function

    def detach(self) -> None:
        """Takes the schedules off: the optimizer's hyperparameters are the user's again."""
        if not self.attached:
            return
        for part in self._parts.values():
            part.detach()
        self.attached = False
        if self.model is not None:
            vars(self.model).pop("make_train_function", None)
            compile_step(self.model)

    def at_end_of_fit(self, act: Callable[[], None]) -> bool:
        """Calls `act` when `fit` ends, after all callbacks; returns False without a `CallbackList`."""
        return self._fit is not None and self._fit.at_end(act)

    @property
    def was_interrupted(self) -> bool:
        """Whether the `fit` that the schedules were attached in has ended, and they are still on."""
        return self.attached and self._fit is not None and not self._fit.is_running()

    def end_interrupted(self) -> None:
        """Takes off schedules that a `fit` has left which ended in an exception."""
        self._at_next_fit()
        self.detach()

    @property
    def is_in_a_callback(self) -> bool:
        """Whether the `fit` that the schedules were attached in is calling a callback now."""
        return self.attached and self._fit is not None and self._fit.is_calling()

    def iterations(self) -> int:
        """Returns the number of updates that the optimizer has made."""
        return self.batches() // batches_per_update(self.optimizer)

    def batches(self) -> int:
        """Returns the number of batches that went into updates, whole or in part."""
        if self.model is not None:
            backend.sync(self.model)
        return backend.to_number(self.counter)

    def step(self, batches: int | None = None) -> int:
        """Returns the step that the next update will be, now or after so many batches."""
        if batches is None:
            batches = self.batches()
        return batches // batches_per_update(self.optimizer) - self._start

    def unused(self) -> list[str]:
        """Returns what is scheduled and no traced update computes with."""
        return [_name(name, key) for key, p in self._training().items() for name in p.unused()]

    def unmatched(self) -> str:
        """Says which keys of a `MultiOptimizer` match no trainable variable; an empty string if none."""
        keys = [key for key in self._parts if key and key not in self._training()]
        if not keys:
            return ""
        variables = [] if self.model is None else self.model.trainable_variables
        such = " or ".join(dict.fromkeys(repr(v.path) for v in variables[:1] + variables[-1:]))
        return (
            f"No trainable variable matches {', '.join(map(repr, keys))} of the `MultiOptimizer`: its layers "
            "are frozen, or train at the default learning rate, since a key must match a whole path"
            f"{', such as ' if such else ''}{such}."
        )

    def _training(self) -> dict[str, DerivedOptimizer]:
        """Returns the parts that have variables, once a step was traced."""
        return {key: p for key, p in self._parts.items() if p.traced or not self.traced}

    def _attributes(
        self, part: keras.Optimizer, schedules: Mapping[str, Schedule], optional: Sequence[str]
    ) -> dict[str, list[str]]:
        """Returns the attributes of a part that each schedule moves."""
        attributes = {name: [name] for name in schedules}
        if "momentum" in schedules:
            try:
                attributes["momentum"] = self._momentum_names(part)
            except ValueError:
                if "momentum" not in optional or not any(
                    map(has_momentum, parts_of(self.optimizer).values())
                ):
                    raise
                del attributes["momentum"]
        return attributes

    def _momentum_names(self, part: keras.Optimizer) -> list[str]:
        try:
            return momentum_names(part)
        except ValueError as error:
            if self.model is None or type(self.model).compile is keras.Model.compile:
                raise
            raise ValueError(
                f"{error} `{type(self.model).__name__}` has its own `compile`: if it takes optimizers of "
                "its own, `model.optimizer` is the `RMSprop` that Keras makes where it is given none. Give "
                "one to `super().compile(optimizer=...)`, or schedule the others with `attach(optimizer)`."
            ) from error

    def _check_free(self) -> None:
        for part in self._parts.values():
            followed = getattr(type(part.optimizer), "_keras_onecycle", None)
            if followed is None:
                continue
            if followed.was_interrupted:
                followed.end_interrupted()
                continue
            raise ValueError(
                f"The optimizer already follows the schedule of `{followed.owner}`, and cannot follow "
                f"that of `{self.owner}` too. Remove one of the two callbacks, or call `detach()` of the "
                "first; a `fit` inside a callback must be of another model."
            )

    def _make_train_function(self, force: bool = False) -> None:
        model = self.model
        if self.was_interrupted:
            self.end_interrupted()
            model.make_train_function(force=force)
        elif unwrap(model.optimizer) is not self.optimizer:
            raise ValueError(
                f"The model was compiled anew, and `{self.owner}` follows the optimizer that it had before. "
                "End this `fit`, or call `detach()`, and begin again after `model.compile(...)`. "
                f"Received: optimizer={model.optimizer!r}"
            )
        elif force or model.train_function is None:
            self._compile_step(model)


def _name(name: str, key: str) -> str:
    return f"{name}[{key}]" if key else name
