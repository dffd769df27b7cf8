"""What counts as an out-of-memory error, whichever library raised it."""

import re

# What TensorFlow (also where it finds no room for a constant), JAX, PyTorch and the libraries of CUDA say.
_OUT_OF_MEMORY = (
    "oom when allocating",
    "cannot parse tensor from proto",
    "resource_exhausted",
    "out of memory",
    "out_of_memory",
    "alloc_failed",
    "cannot allocate memory",
    "can't allocate memory",
    "std::bad_alloc",
)


def out_of_memory_message(error: Exception) -> str | None:
    """Returns in one line what `error` says about memory, or `None` where it is no out-of-memory error.

    The backend, NumPy or Python may have raised it. Keras raises a layer's error again, as one of
    another class that has the message in it, so the text counts as much as the class.
    """
    name = type(error).__name__
    plain = re.sub(r"\x1b\[\d+m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    said = [line for line in lines if any(known in line.lower() for known in _OUT_OF_MEMORY)]
    if not said and not isinstance(error, MemoryError) and name != "ResourceExhaustedError":
        return None
    return f"{name}: {[*said, *lines, 'no memory'][0]}"
