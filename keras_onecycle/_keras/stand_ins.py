"""What an optimizer finds where it expects the Python float of a hyperparameter that is scheduled."""

import operator
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from keras_onecycle._keras import backend


class StandInTensor:
    """A tensor of the compiled step that answers in Python as the user's own float would.

    Optimizers ask in Python `if self.momentum != 0`, which no traced value can answer. Whether there is
    momentum at all is as the user said; so comparisons and `bool` are those of the user's value, and
    everything else is the tensor's.
    """

    # NumPy leaves arithmetic to this class.
    __array_ufunc__ = None

    def __init__(self, user_value: float, tensor: Any = None) -> None:
        self.user_value = user_value
        self.was_used = False
        self._tensor = tensor

    def hold(self, tensor: Any) -> None:
        """Stands for `tensor`, or with `None` lets go of one whose trace has ended."""
        self._tensor = tensor

    @property
    def value(self) -> Any:
        """The tensor."""
        self.was_used = True
        if self._tensor is None:
            raise RuntimeError(
                "The value of a scheduled hyperparameter is available only inside `optimizer.apply`. Read it "
                "from the optimizer each time instead of keeping it."
            )
        return self._tensor

    @property
    def dtype(self) -> Any:
        """The tensor's dtype."""
        return self.value.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a scalar."""
        return ()

    def __bool__(self) -> bool:
        return bool(self.user_value)

    __hash__ = object.__hash__

    def __jax_array__(self) -> Any:
        return self.value

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return backend.as_tensor(self.value, dtype)


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[StandInTensor, Any], bool]:
    return lambda self, other: compare(self.user_value, other)


def _arithmetic(operate: Callable[[Any, Any], Any]) -> Callable[[StandInTensor, Any], Any]:
    return lambda self, other: operate(self.value, other)


def _reflected(operate: Callable[[Any, Any], Any]) -> Callable[[StandInTensor, Any], Any]:
    return lambda self, other: operate(other, self.value)


def _unary(operate: Callable[[Any], Any]) -> Callable[[StandInTensor], Any]:
    return lambda self: operate(self.value)


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(StandInTensor, f"__{_name}__", _comparison(getattr(operator, _name)))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(StandInTensor, f"__{_name}__", _arithmetic(getattr(operator, _name)))
    setattr(StandInTensor, f"__r{_name}__", _reflected(getattr(operator, _name)))
for _name in ("neg", "pos", "abs"):
    setattr(StandInTensor, f"__{_name}__", _unary(getattr(operator, _name)))

backend.register_tensor_like(StandInTensor)


class StandInFloat(float):
    """The present value of a scheduled hyperparameter, as it is read outside the step.

    It has what people read from and do to `optimizer.learning_rate`, which is a variable otherwise.
    """

    shape: tuple[int, ...] = ()
    dtype = np.dtype("float32")

    def __new__(cls, value: float, refuse: Callable[[float], None]) -> Self:
        """Makes the number; `refuse` is called with what is assigned to it."""
        number = super().__new__(cls, value)
        number._refuse = refuse
        return number

    _refuse: Callable[[float], None]

    def __reduce__(self) -> tuple[type, tuple[float]]:
        # What is kept of it, in a copy or a file, is a float.
        return float, (float(self),)

    @property
    def value(self) -> float:
        """The number itself."""
        return float(self)

    def numpy(self) -> np.ndarray:
        """Returns the number as an array of shape `()`."""
        return np.array(self, dtype="float32")

    def assign(self, value: float) -> None:
        """Says that the schedule alone sets the value."""
        self._refuse(value)
