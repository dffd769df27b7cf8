"""The validation data of a range test: checked, and evaluated now and then."""

from typing import Any

import keras

from keras_onecycle._arguments import check_int

# Evaluations in a test, where `validation_freq` does not say.
_EVALUATIONS = 20


class Validation:
    """Evaluates a model on validation data; the arguments are those of `LRFinder`."""

    def __init__(
        self,
        data: Any,
        freq: int | None,
        steps: int | None,
        batch_size: int | None,
        num_steps: int,
    ) -> None:
        if hasattr(data, "__next__"):
            raise ValueError(
                "`validation_data` is read several times, but a generator or iterator only once. Pass "
                f"arrays, a dataset or a `keras.utils.PyDataset`. Received: validation_data={data!r}"
            )
        for name, value in (
            ("validation_freq", freq),
            ("validation_steps", steps),
            ("validation_batch_size", batch_size),
        ):
            if value is not None:
                check_int(name, value)
                if data is None:
                    raise ValueError(
                        f"`{name}` needs `validation_data`. Received: {name}={value!r}, validation_data=None"
                    )
        # Raises where a tuple has more than three.
        self._data: Any = None if data is None else keras.utils.unpack_x_y_sample_weight(data)
        self._steps, self._batch_size = steps, batch_size
        self._freq = freq or max(1, num_steps // _EVALUATIONS)

    def is_due(self, updates: int, *, last: bool) -> bool:
        """Returns whether the model is to be evaluated after so many updates."""
        return self._data is not None and (last or updates % self._freq == 0)

    def evaluate(self, model: keras.Model) -> dict[str, Any]:
        """Returns the loss and the metrics on the data."""
        x, y, sample_weight = self._data
        return model.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            batch_size=self._batch_size,
            steps=self._steps,
            verbose=0,
            return_dict=True,
        )
