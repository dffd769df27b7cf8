"""One optimizer whose hyperparameters follow schedules inside the compiled step.

While schedules are attached, the optimizer's class is one derived from its own, in which every scheduled
hyperparameter is a property. Its `apply`, which Keras traces into the compiled step, first evaluates each
schedule at `optimizer.iterations`, and the update then reads that value where it would have read a Python
float. The optimizer's own attributes and variables are never written, so there is nothing to put back, and
what is saved in the meantime holds the user's own values.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops
from keras.backend import standardize_dtype

from keras_onecycle._keras import backend
from keras_onecycle._keras.optimizer_traits import counter_of, user_value
from keras_onecycle._keras.stand_ins import StandInFloat, StandInTensor
from keras_onecycle.schedules import Schedule, as_step, float_dtype


class DerivedOptimizer:
    """Makes attributes of one optimizer follow schedules."""

    def __init__(
        self, optimizer: keras.Optimizer, attributes: Mapping[str, Sequence[str]], owner: str
    ) -> None:
        self.optimizer = optimizer
        self.owner = owner
        self.traced = False
        self._attributes = attributes
        self._stand_ins = {
            attribute: StandInTensor(user_value(optimizer, attribute))
            for names in attributes.values()
            for attribute in names
        }
        self._in_apply = 0
        self._in_users = 0

    def plan(self, schedules: Mapping[str, Schedule], start: int) -> None:
        """Sets the schedules, and the value of `optimizer.iterations` at step 0, until a step is traced."""
        self.schedules = {name: schedules[name] for name in self._attributes}
        self._start = start

    def attach(self, attachment: Any) -> None:
        """Makes the optimizer follow the schedules; who looks at it finds `attachment`."""
        self.traced = False
        derived = self._derived_class(type(self.optimizer))
        derived._keras_onecycle = attachment
        _set_class(self.optimizer, derived)

    def detach(self) -> None:
        """Makes the optimizer's hyperparameters the user's again."""
        _set_class(self.optimizer, self.optimizer.__class__)

    def batches(self) -> int:
        """Returns the number of batches that went into updates."""
        return backend.to_number(counter_of(self.optimizer))

    def unused(self) -> list[str]:
        """Returns what is scheduled and no traced update computes with."""
        return [
            name
            for name, attributes in self._attributes.items()
            if not all(self._stand_ins[attribute].was_used for attribute in attributes)
        ]

    def _now(self, attribute: str) -> Any:
        name = next(name for name, names in self._attributes.items() if attribute in names)
        return self.schedules[name](as_step(self.optimizer.iterations) - self._start)

    @contextmanager
    def _apply(self, grads: Sequence[Any]) -> Iterator[None]:
        """Lets the optimizer find the values of this step."""
        # A float takes the precision of what it meets; the learning rate is a variable of its own.
        dtypes = {standardize_dtype(g.dtype) for g in grads if g is not None}
        dtype = dtypes.pop() if len(dtypes) == 1 else float_dtype()
        values = {
            name: ops.cast(self._now(name), float_dtype() if name == "learning_rate" else dtype)
            for name in self._stand_ins
        }
        for name, value in values.items():
            self._stand_ins[name].hold(value)
        # A count, not a flag: under `MirroredStrategy` the replicas' threads are here together.
        self._in_apply += 1
        try:
            yield
        finally:
            self._in_apply -= 1
            if not self._in_apply:
                # Otherwise a trace that has ended would live on in them.
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
            return backend.in_step(self._stand_ins[name])
        value = self._now(name)
        if not backend.is_concrete(value):
            return value
        return StandInFloat(value, refuse=lambda assigned: self._refuse(name, assigned))

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

        def new(cls: Any, *arguments: Any, **named: Any) -> Any:
            # What is made of the class, as `from_config` does, is of the base: it follows no schedule.
            return base(*arguments, **named)

        def build(optimizer: Any, variables: Any) -> None:
            with scheduled._users(), backend.outside_step():
                base.build(optimizer, variables)

        def apply(optimizer: Any, grads: Any, trainable_variables: Any = None) -> Any:
            scheduled.traced = True
            with scheduled._apply(grads):
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
            "__new__": new,
            "build": build,
            "apply": apply,
            "get_config": get_config,
            "__reduce__": reduce,
        }
        members |= {name: scheduled_property(name) for name in self._stand_ins}
        if "learning_rate" in self._stand_ins:
            # What weight decay reads on PyTorch.
            members["_get_current_learning_rate"] = lambda optimizer: optimizer.learning_rate
        return type(base.__name__, (base,), members)


def _set_class(optimizer: keras.Optimizer, cls: type[keras.Optimizer]) -> None:
    # Not `optimizer.__class__ = cls`: the derived class has a property of that name.
    object.__dict__["__class__"].__set__(optimizer, cls)
