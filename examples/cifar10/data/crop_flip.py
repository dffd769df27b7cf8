"""Which pixels a random crop and flip takes: arithmetic that NumPy, TensorFlow and JAX share."""

from typing import Any, Literal

import numpy as np

PADDING_MODES: dict[str, Literal["constant", "reflect"]] = {
    "zero": "constant",
    "reflect": "reflect",
}
"""What `np.pad` and `keras.ops.pad` call each way of padding."""


def num_choices(padding: int) -> int:
    """Returns how many images a crop and flip makes of one: 162 with a padding of 4."""
    return 2 * (2 * padding + 1) ** 2


def pixel_indices(choices: Any, height: int, width: int, padding: int) -> Any:
    """Returns the pixels of a padded image, row by row, that make the cropped and flipped one.

    Args:
        choices: Integer tensor of shape `(batch,)`, values in `[0, num_choices(padding))`.
        height: Integer, the height of the image before padding, and of the crop.
        width: Integer, the width.
        padding: Integer, at least 0: pixels of padding on each side.

    Returns:
        Integer tensor of shape `(batch, height, width)`.
    """
    choices = choices[:, None]
    flip = choices % 2
    top = choices // 2 % (2 * padding + 1)
    left = choices // 2 // (2 * padding + 1)
    rows = top + np.arange(height, dtype="int32")
    columns = left + flip * (width - 1) + (1 - 2 * flip) * np.arange(width, dtype="int32")
    return rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
