"""Makes hyperparameters of an optimizer follow schedules inside the compiled step.

This is the only file that reaches inside an optimizer. While schedules are attached, the optimizer's
class is one derived from its own, in which every scheduled hyperparameter is a property. Its `apply`,
which Keras traces into the compiled step, first evaluates each schedule at `optimizer.iterations`, and
the update then reads that value where it would have read a Python float. The optimizer's own
attributes and variables are never written, so there is nothing to put back, and what is saved in the
meantime holds the user's own values.
"""

import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import keras
from keras import ops

from keras_onecycle._keras import backend
from keras_onecycle._keras.compiled_step import trace_anew
from keras_onecycle.schedules import Schedule, as_step, float_dtype

# What an optimizer's momentum is called: SGD, RMSprop and Muon; the Adam family; Muon's Adam part.
_MOMENTUM_NAMES = ("momentum", "beta_1", "adam_beta_1")

_REFUSED = {
    "ScheduleFreeAdamW": "it averages its weights under a constant learning rate and momentum, and a "
    "schedule corrupts the averages. Use `keras.optimizers.AdamW`",
    "MultiOptimizer": "each of its parts has a learning rate of its own. Attach a schedule to each "
    "optimizer in `.optimizers` instead",
}


class _Hyperparameter(keras.Variable):
    """Stands where an optimizer expects a Python float, while the step is traced.

    Its value is part of the trace and not stored: TensorFlow takes about ten microseconds for each
    variable that a compiled step stores.
    """

    _held: Any = None

    def __init__(self, name: str, value: float) -> None:
        super().__init__(
            float(value), dtype=float_dtype(), trainable=False, autocast=False, name=name
        )
        self.user_value = value

    def hold(self, value: Any) -> None:
        """Stands for this value, until `release`."""
        self._held = ops.cast(value, self.dtype)

    def release(self) -> None:
        """Lets go of the value, which a trace that has ended would else live on in."""
        self._held = None

    @property
    def value(self) -> Any:
        return super().value if self._held is None else self._held

    # Optimizers ask in Python `if self.momentum != 0`, which no traced value can answer. Whether
    # there is momentum at all is as the user said; so the user's own value answers.
    def __bool__(self) -> bool:
        return bool(self.user_value)

    __hash__ = keras.Variable.__hash__


def _comparison(name: str) -> Callable[[_Hyperparameter, Any], bool]:
    compare = getattr(operator, name)
    return lambda self, other: compare(self.user_value, other)


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(_Hyperparameter, f"__{_name}__", _comparison(_name))


def unwrap(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Returns the optimizer that makes the updates, out of a `LossScaleOptimizer`."""
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer


def batches_per_update(optimizer: keras.Optimizer) -> int:
    """Returns the number of batches that make one update: 1, or more under gradient accumulation."""
    return unwrap(optimizer).gradient_accumulation_steps or 1


def _counter(optimizer: keras.Optimizer) -> keras.Variable:
    # `optimizer.iterations` is this divided by `gradient_accumulation_steps`.
    return optimizer.variables[0]


def check_schedulable(optimizer: Any) -> keras.Optimizer:
    """Returns the innermost optimizer, or says why its learning rate can follow no schedule."""
    if not isinstance(optimizer, keras.Optimizer):
        raise TypeError(f"Expected a `keras.Optimizer`. Received: optimizer={optimizer!r}")
    optimizer = unwrap(optimizer)
    for name, reason in _REFUSED.items():
        refused = getattr(keras.optimizers, name, None)
        if refused is not None and isinstance(optimizer, refused):
            raise ValueError(f"`{name}` cannot follow a schedule: {reason}.")
    learning_rate = optimizer.get_config()["learning_rate"]
    if not isinstance(learning_rate, float):
        raise ValueError(
            "The optimizer already has a learning rate schedule, and would follow both. Create it "
            f"with a float, as in `{type(optimizer).__name__}(learning_rate=0.01)`. "
            f"Received: learning_rate={learning_rate!r}"
        )
    return optimizer


def momentum_names(optimizer: keras.Optimizer) -> list[str]:
    """Returns the names of the attributes that hold the optimizer's momentum.

    Raises:
        ValueError: If it has none, or was built without.
    """
    optimizer = unwrap(optimizer)
    kind = type(optimizer).__name__
    config = optimizer.get_config()
    names = [name for name in _MOMENTUM_NAMES if name in config]
    if not names:
        raise ValueError(
            f"`{kind}` has no momentum to move. Use an optimizer with momentum, or move the learning "
            "rate alone, as `OneCycle(..., cycle_momentum=False)` does."
        )
    for name in names:
        if not config[name]:
            # No slot variables exist for it: a momentum set later would do nothing.
            raise ValueError(
                f"`{kind}` was created with `{name}={config[name]!r}` and keeps no velocities, so there "
                f"is no momentum to move. Create it with `{kind}(..., {name}=0.9)`, or move the "
                "learning rate alone, as `OneCycle(..., cycle_momentum=False)` does."
            )
    return names


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
        owner: String that errors name. Defaults to the name of this class.

    Raises:
        TypeError: If `target` is neither a model nor an optimizer.
        ValueError: If the optimizer cannot follow a schedule, lacks a scheduled hyperparameter, or
            already follows a schedule; if the model is not compiled.
    """

    def __init__(
        self,
        target: keras.Model | keras.Optimizer,
        schedules: Mapping[str, Schedule],
        owner: str = "ScheduledHyperparameters",
    ) -> None:
        self.model = target if isinstance(target, keras.Model) else None
        optimizer = target if self.model is None else getattr(target, "optimizer", None)
        if self.model is not None and optimizer is None:
            raise ValueError(
                "The model is not compiled with an optimizer. Call `model.compile(optimizer=..., "
                "loss=...)` first. Received: optimizer=None"
            )
        self.optimizer = check_schedulable(optimizer)
        self.counter = _counter(self.optimizer)
        self.owner = owner
        self.schedules = dict(schedules)
        self.start = 0
        self._attached = False
        self._by_attribute: dict[str, Schedule] = {}
        for name, schedule in self.schedules.items():
            names = momentum_names(self.optimizer) if name == "momentum" else [name]
            self._by_attribute.update(dict.fromkeys(names, schedule))
        config = self.optimizer.get_config()
        self._user_values = {}
        for name in self._by_attribute:
            value = config.get(name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(
                    f"`{type(self.optimizer).__name__}` has no number `{name}` to schedule. "
                    f"Received: {name}={value!r}"
                )
            self._user_values[name] = value
        self._variables: dict[str, _Hyperparameter] = {}
        self._depth = 0
        self._traced = False

    @property
    def attached(self) -> bool:
        """Whether the optimizer follows the schedules now."""
        return self._attached

    def iterations(self) -> int:
        """Returns the number of updates that the optimizer has made."""
        self._sync()
        return backend.to_int(self.optimizer.iterations)

    def batches(self) -> int:
        """Returns the number of batches that went into updates, whole or in part."""
        self._sync()
        return backend.to_int(self.counter)

    def _sync(self) -> None:
        if self.model is not None:
            backend.sync(self.model)

    def step(self, batches: int | None = None) -> int:
        """Returns the step that the next update will be, now or after so many batches."""
        if batches is None:
            batches = self.batches()
        return batches // batches_per_update(self.optimizer) - self.start

    def check_free(self) -> None:
        """Raises a `ValueError` if the optimizer follows schedules already."""
        followed = getattr(type(self.optimizer), "_keras_onecycle", None)
        if followed is not None:
            raise ValueError(
                f"The optimizer already follows the schedule of `{followed.owner}`, and cannot follow "
                f"that of `{self.owner}` too. Remove one of the two callbacks; if the first was "
                "attached by hand, call its `detach()`."
            )

    def attach(
        self, start: int | None = None, *, at_next_fit: Callable[[], None] | None = None
    ) -> None:
        """Makes the optimizer follow the schedules.

        Args:
            start: Integer, the value of `optimizer.iterations` at which step 0 is. Defaults to its
                present value. It may be changed until the step is traced.
            at_next_fit: Function that the next `fit` of the model calls before it takes the schedules
                off, should nothing have done so until then (an exception in `fit`, or Ctrl-C, leaves
                a callback no chance). Defaults to `None`: they stay until `detach`.
        """
        self.check_free()
        self.start = self.iterations() if start is None else start
        self._traced = False
        with backend.replica_scope(self.counter):
            if self.model is not None:
                _build_optimizer(self.model)
            self._variables = {
                name: _Hyperparameter(name, value) for name, value in self._user_values.items()
            }
        _set_class(self.optimizer, self._derived_class(type(self.optimizer)))
        self._attached = True
        if self.model is not None:
            trace_anew(self.model)
            if at_next_fit is not None:
                self._at_next_fit = at_next_fit
                self.model.__dict__["make_train_function"] = self._detach_and_make_train_function

    def detach(self) -> None:
        """Takes the schedules off: the optimizer's hyperparameters are the user's again."""
        if not self._attached:
            return
        _set_class(self.optimizer, self.optimizer.__class__)
        self._attached = False
        self._variables = {}
        if self.model is not None:
            self.model.__dict__.pop("make_train_function", None)
            trace_anew(self.model)

    def _detach_and_make_train_function(self, force: bool = False) -> None:
        # `fit` calls this before any callback; it is there only after a `fit` that did not end.
        model = self.model
        self._at_next_fit()
        self.detach()
        model.make_train_function(force=force)

    def _values(self) -> dict[str, Any]:
        step = as_step(self.optimizer.iterations) - self.start
        return {name: schedule(step) for name, schedule in self._by_attribute.items()}

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        # A count, not a flag: under `MirroredStrategy` the replicas' threads are here together.
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                for variable in self._variables.values():
                    variable.release()

    def _read(self, name: str) -> Any:
        if self._depth:
            return self._variables[name]
        return self._by_attribute[name](as_step(self.optimizer.iterations) - self.start)

    def _refuse(self, name: str, value: Any) -> None:
        message = (
            f"`{name}` follows the schedule of `{self.owner}` and cannot be set by anything else, such "
            "as a `LearningRateScheduler` or `ReduceLROnPlateau` beside it. Remove one of the two. "
            f"Received: {name}={value!r}"
        )
        if not self._traced:
            raise ValueError(message)
        # Hours into a training, going on is better than losing it.
        warnings.warn(message + ", which was ignored.", stacklevel=2)

    def _derived_class(self, base: type[keras.Optimizer]) -> type[keras.Optimizer]:
        """Makes the class that the optimizer has while it follows the schedules."""
        scheduled = self

        def build(optimizer: Any, variables: Any) -> None:
            with scheduled._in_place():
                base.build(optimizer, variables)

        def apply(optimizer: Any, grads: Any, trainable_variables: Any = None) -> Any:
            scheduled._traced = True
            values = scheduled._values()
            with scheduled._in_place():
                for name, value in values.items():
                    scheduled._variables[name].hold(value)
                return base.apply(optimizer, grads, trainable_variables)

        def get_config(optimizer: Any) -> dict[str, Any]:
            with scheduled._in_place():
                config = base.get_config(optimizer)
            # The learning rate in there is already the user's: that of Keras's own variable.
            users = {n: v for n, v in scheduled._user_values.items() if n != "learning_rate"}
            return {**config, **users}

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
        members |= {name: scheduled_property(name) for name in self._by_attribute}
        return type(base.__name__, (base,), members)


def _build_optimizer(model: keras.Model) -> None:
    """Makes the variables of the optimizer, as the first step does, if those of the model are there.

    TensorFlow is slow to make them while it traces a step.
    """
    # Private, but nothing public sees a layer inside a layer, which may have no variables yet.
    if not model.optimizer.built and all(layer.built for layer in model._flatten_layers()):
        model.optimizer.build(model.trainable_variables)


def _set_class(optimizer: keras.Optimizer, cls: type[keras.Optimizer]) -> None:
    # Not `optimizer.__class__ = cls`: the derived class has a property of that name.
    object.__dict__["__class__"].__set__(optimizer, cls)
