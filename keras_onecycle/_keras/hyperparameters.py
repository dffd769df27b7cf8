"""Makes hyperparameters of an optimizer follow schedules inside the compiled step.

While schedules are attached, the optimizer's class is one derived from its own, in which every scheduled
hyperparameter is a property. Its `apply`, which Keras traces into the compiled step, first evaluates each
schedule at `optimizer.iterations`, and the update then reads that value where it would have read a Python
float. The optimizer's own attributes and variables are never written, so there is nothing to put back, and
what is saved in the meantime holds the user's own values.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from keras_onecycle._keras import backend
from keras_onecycle._keras.compiled_step import compile_step
from keras_onecycle._keras.optimizers import (
    batches_per_update,
    build_optimizer,
    check_schedulable,
    counter_of,
    momentum_names,
    user_value,
)
from keras_onecycle._keras.running_fit import RunningFit
from keras_onecycle._keras.scheduled_values import ScheduledFloat, ScheduledTensor
from keras_onecycle.schedules import Schedule, as_step, float_dtype


class ScheduledHyperparameters:
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

    Raises:
        TypeError: If `target` is neither a model nor an optimizer.
        ValueError: If the optimizer cannot follow a schedule, lacks a scheduled hyperparameter, or
            already follows a schedule; if the model is not compiled.
    """

    def __init__(
        self, target: keras.Model | keras.Optimizer, schedules: Mapping[str, Schedule], owner: str
    ) -> None:
        self.model: Any = target if isinstance(target, keras.Model) else None
        optimizer = target if self.model is None else getattr(target, "optimizer", None)
        if self.model is not None and optimizer is None:
            raise ValueError(
                "The model is not compiled with an optimizer. Call `model.compile(optimizer=..., "
                "loss=...)` first. Received: optimizer=None"
            )
        self.optimizer = check_schedulable(optimizer)
        self.counter = counter_of(self.optimizer)
        self.owner = owner
        self.start = 0
        self.attached = False
        self.traced = False
        self._attributes = {
            name: self._momentum_names() if name == "momentum" else [name] for name in schedules
        }
        self._stand_ins = {
            attribute: ScheduledTensor(user_value(self.optimizer, attribute))
            for attributes in self._attributes.values()
            for attribute in attributes
        }
        self._in_apply = 0
        self._in_users = 0
        self.plan(schedules)
        self._check_free()

    def plan(self, schedules: Mapping[str, Schedule], start: int | None = None) -> None:
        """Sets the schedules, and the value of `optimizer.iterations` at step 0, until a step is traced."""
        self.schedules = dict(schedules)
        self._by_attribute = {
            attribute: schedule
            for name, schedule in self.schedules.items()
            for attribute in self._attributes[name]
        }
        if start is not None:
            self.start = start

    def attach(
        self,
        at_next_fit: Callable[[], None] | None = None,
        compile_step: Callable[[keras.Model], None] = compile_step,
    ) -> None:
        """Makes the optimizer follow the schedules; the next update is step 0.

        Args:
            at_next_fit: Function that is called before the schedules come off, should `fit` end in
                an exception or Ctrl-C, which leave a callback no chance: by the model's next `fit` or
                `train_on_batch`. Defaults to `None`: they stay until `detach`.
            compile_step: Function that compiles the model's train step, now and whenever a callback
                asks for it anew. Defaults to that of this package.
        """
        self._check_free()
        self.start = self.iterations()
        self.traced = False
        if self.model is not None:
            build_optimizer(self.model)
        _set_class(self.optimizer, self._derived_class(type(self.optimizer)))
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
        _set_class(self.optimizer, self.optimizer.__class__)
        self.attached = False
        if self.model is not None:
            vars(self.model).pop("make_train_function", None)
            compile_step(self.model)

    def at_end_of_fit(self, act: Callable[[], None]) -> bool:
        """Calls `act` when `fit` ends, after all callbacks; returns False where no `fit` goes on."""
        return self._fit.at_end(act)

    def iterations(self) -> int:
        """Returns the number of updates that the optimizer has made."""
        self._sync()
        return backend.to_int(self.optimizer.iterations)

    def batches(self) -> int:
        """Returns the number of batches that went into updates, whole or in part."""
        self._sync()
        return backend.to_int(self.counter)

    def step(self, batches: int | None = None) -> int:
        """Returns the step that the next update will be, now or after so many batches."""
        if batches is None:
            batches = self.batches()
        return batches // batches_per_update(self.optimizer) - self.start

    def unused(self) -> list[str]:
        """Returns what is scheduled and no traced update computes with."""
        return [
            name
            for name, attributes in self._attributes.items()
            if not all(self._stand_ins[attribute].was_used for attribute in attributes)
        ]

    def _momentum_names(self) -> list[str]:
        try:
            return momentum_names(self.optimizer)
        except ValueError as error:
            if self.model is None or type(self.model).compile is keras.Model.compile:
                raise
            raise ValueError(
                f"{error} `{type(self.model).__name__}` has its own `compile`: if it takes optimizers of "
                "its own, `model.optimizer` is the `RMSprop` that Keras makes where it is given none. Give "
                "one to `super().compile(optimizer=...)`, or schedule the others with `attach(optimizer)`."
            ) from error

    def _sync(self) -> None:
        if self.model is not None:
            backend.sync(self.model)

    def _check_free(self) -> None:
        followed = getattr(type(self.optimizer), "_keras_onecycle", None)
        if followed is not None:
            raise ValueError(
                f"The optimizer already follows the schedule of `{followed.owner}`, and cannot follow "
                f"that of `{self.owner}` too. Remove one of the two callbacks, or call `detach()` of the "
                "first; a `fit` inside a callback must be of another model."
            )

    def _make_train_function(self, force: bool = False) -> None:
        model = self.model
        if not self._fit.is_running():
            self._at_next_fit()
            self.detach()
            model.make_train_function(force=force)
        elif check_schedulable(model.optimizer) is not self.optimizer:
            raise ValueError(
                f"The model was compiled anew during `fit`, and `{self.owner}` follows the optimizer that it "
                "began with. End this `fit`, and begin another after `model.compile(...)`. "
                f"Received: optimizer={model.optimizer!r}"
            )
        elif force or model.train_function is None:
            self._compile_step(model)

    def _now(self, attribute: str) -> Any:
        return self._by_attribute[attribute](as_step(self.optimizer.iterations) - self.start)

    @contextmanager
    def _apply(self) -> Iterator[None]:
        """Lets the optimizer find the values of this step."""
        values = {name: ops.cast(self._now(name), float_dtype()) for name in self._stand_ins}
        for name, value in values.items():
            self._stand_ins[name].hold(value)
        # A count, not a flag: under `MirroredStrategy` the replicas' threads are here together.
        self._in_apply += 1
        try:
            yield
        finally:
            self._in_apply -= 1
            if not self._in_apply:
                # A trace that has ended would else live on in them.
                for stand_in in self._stand_ins.values():
                    stand_in.hold(None)

    @contextmanager
    def _users(self) -> Iterator[None]:
        """Lets the optimizer find the values that the user gave it."""
        self._in_users += 1
        try:
            yield
        finally:
            self._in_users -= 1

    def _read(self, name: str) -> Any:
        if self._in_users:
            return self._stand_ins[name].user_value
        if self._in_apply:
            return self._stand_ins[name]
        value = self._now(name)
        if not backend.is_concrete(value):
            return value
        number = ScheduledFloat(value)
        number.refuse = lambda assigned: self._refuse(name, assigned)
        return number

    def _refuse(self, name: str, value: Any) -> None:
        message = (
            f"`{name}` follows the schedule of `{self.owner}` and cannot be set by anything else, such as a "
            "`LearningRateScheduler` or `ReduceLROnPlateau` beside it. Remove one of the two; after a `fit` "
            f"that was interrupted, call `detach()` of the callback first. Received: {name}={value!r}"
        )
        if not self.traced:
            raise ValueError(message)
        # Hours into a training, going on is better than losing it.
        warnings.warn(message + ", which was ignored.", stacklevel=3)

    def _derived_class(self, base: Any) -> type[keras.Optimizer]:
        """Makes the class that the optimizer has while it follows the schedules."""
        scheduled = self

        def build(optimizer: Any, variables: Any) -> None:
            with scheduled._users():
                base.build(optimizer, variables)

        def apply(optimizer: Any, grads: Any, trainable_variables: Any = None) -> Any:
            scheduled.traced = True
            with scheduled._apply():
                return base.apply(optimizer, grads, trainable_variables)

        def get_config(optimizer: Any) -> dict[str, Any]:
            with scheduled._users():
                return base.get_config(optimizer)

        def reduce(optimizer: Any) -> tuple[Any, ...]:
            # A class method of Keras's rebuilds it: that of the base, which pickle finds by its name.
            function, *arguments = base.__reduce__(optimizer)
            return (getattr(base, function.__name__), *arguments)

        def scheduled_property(name: str) -> property:
            return property(
                lambda optimizer: scheduled._read(name),
                lambda optimizer, value: scheduled._refuse(name, value),
            )

        members: dict[str, Any] = {
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
            "__doc__": base.__doc__,
            # Saving asks the object for its class, and must find the one that is registered.
            "__class__": property(lambda optimizer: base),
            "_keras_onecycle": scheduled,
            "build": build,
            "apply": apply,
            "get_config": get_config,
            "__reduce__": reduce,
        }
        members |= {name: scheduled_property(name) for name in self._stand_ins}
        return type(base.__name__, (base,), members)


def _set_class(optimizer: keras.Optimizer, cls: type[keras.Optimizer]) -> None:
    # Not `optimizer.__class__ = cls`: the derived class has a property of that name.
    object.__dict__["__class__"].__set__(optimizer, cls)
