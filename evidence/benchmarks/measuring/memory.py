"""What Linux says of the main memory of this process."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from evidence.benchmarks.measuring.rounds import spread

_PROCESS = Path("/proc/self")


def held() -> int:
    """Returns the bytes that the process holds now."""
    return _read("VmRSS")


def peak() -> int:
    """Returns the bytes that the process held at most, since it began or since `forget_peak`."""
    return _read("VmHWM")


def forget_peak() -> None:
    """Begins anew with the peak."""
    (_PROCESS / "clear_refs").write_text("5", encoding="ascii")


def _read(key: str) -> int:
    status = (_PROCESS / "status").read_text(encoding="ascii")
    return int(status.split(f"{key}:")[1].split()[0]) * 1024


def more(values: Sequence[int], reference: Sequence[int], size: int) -> str:
    """Returns how much more was held, in MiB and in copies of what takes `size` bytes."""
    differences = [value - other for value, other in zip(values, reference, strict=True)]
    mebibytes = f"{statistics.median(differences) / 2**20:.0f} MiB"
    # Below that, the rest of the process moves by as much.
    if size < 2**26:
        return mebibytes
    return f"{spread([value / size for value in differences], '.2f')} copies, {mebibytes}"
