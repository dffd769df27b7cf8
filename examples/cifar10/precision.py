"""Which precision trains fastest here, by what the processor reports."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import keras

# Linux's names of the instructions that multiply bfloat16 on x86.
BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}


def choose(
    device: str, flags: Collection[str] = (), capability: float | None = None
) -> tuple[str, str]:
    """Returns a dtype policy and the reason for it.

    Without instructions for bfloat16 a CPU is many times slower in it than in float32.

    Args:
        device: `"cpu"`, `"gpu"` or `"tpu"`.
        flags: Instructions that the CPU has, by Linux's names.
        capability: CUDA's compute capability of the GPU, `None` if it has none.
    """
    if device == "tpu":
        return "mixed_bfloat16", "on a TPU"
    if device == "gpu":
        if capability is not None and capability >= 8:
            return "mixed_bfloat16", f"on a GPU of compute capability {capability:g}"
        return "float32", "on a GPU that is not known to have bfloat16"
    if found := BFLOAT16_FLAGS.intersection(flags):
        return "mixed_bfloat16", f"on a CPU with {min(found)}"
    return "float32", "on a CPU that is not known to have bfloat16"


def fast_precision() -> tuple[str, str]:
    """Returns the dtype policy that should train fastest on this machine, and the reason."""
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return choose(device.platform, cpu_flags(), _number(device))
    if keras.backend.backend() == "torch":
        import torch

        if torch.cuda.is_available():
            major, minor = torch.cuda.get_device_capability()
            return choose("gpu", capability=major + minor / 10)
        return choose("cpu", cpu_flags())
    import tensorflow as tf

    if tf.config.list_physical_devices("TPU"):
        return choose("tpu")
    if gpus := tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpus[0])
        major, minor = details.get("compute_capability", (0, 0))
        return choose("gpu", capability=major + minor / 10)
    return choose("cpu", cpu_flags())


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Returns the instructions that Linux says the CPU has; none on another system."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the name of the CPU, where Linux tells it, with its instructions for bfloat16."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "cpu"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return ", ".join([next(names, "cpu"), *sorted(BFLOAT16_FLAGS & cpu_flags(path))])


def _number(device: Any) -> float | None:
    """Returns the compute capability of a JAX device; AMD's are names and not numbers."""
    try:
        return float(getattr(device, "compute_capability", ""))
    except ValueError:
        return None
