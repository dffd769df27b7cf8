"""Which pixels a random crop and flip takes, for the pipeline and for the layer."""

from typing import Literal

import numpy as np

PADDING_MODES: dict[str, Literal["constant", "reflect"]] = {
    "zero": "constant",
    "reflect": "reflect",
}
"""What `np.pad` and `keras.ops.pad` call each way of padding."""


def num_choices(padding: int) -> int:
    """Returns how many images a crop and flip makes of one: 162 with a padding of 4."""
    return 2 * (2 * padding + 1) ** 2


def pixel_indices(height: int, width: int, padding: int) -> np.ndarray:
    """Returns, for each crop and flip, the pixels of the padded image that make the new one, row by row.

    Args:
        height: Integer, the height of the image before padding, and of the crop.
        width: Integer, the width.
        padding: Integer, at least 0: pixels of padding on each side.

    Returns:
        int32 array of shape `(num_choices(padding), height * width)`. With a padding
        of 0, row 0 is the image itself.
    """
    choices = np.arange(num_choices(padding), dtype="int32")[:, None]
    flip = choices % 2
    top = choices // 2 % (2 * padding + 1)
    left = choices // 2 // (2 * padding + 1)
    rows = top + np.arange(height)
    columns = left + flip * (width - 1) + (1 - 2 * flip) * np.arange(width)
    indices = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    return indices.reshape(len(choices), -1).astype("int32")
