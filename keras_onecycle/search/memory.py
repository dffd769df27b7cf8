"""How much memory is left on a Linux machine, and a limit on what this process may take of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Version 2 and version 1 of control groups, as a container sees its own: limit, in use, statistics.
_CONTAINER_FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def _in_file(path: Path, name: str) -> int:
    """Returns the number after `name` in a file with a name and a number on each line."""
    for line in path.read_text(encoding="ascii").splitlines():
        words = line.split()
        if words[0] == name:
            return int(words[1])
    raise ValueError(f"{path} has no {name}")


def available_memory(root: Path = Path("/")) -> int:
    """Returns the bytes that the machine, or the container, can still give without swapping.

    Args:
        root: Path of the file system. Defaults to that of the machine.
    """
    available = 1024 * _in_file(root / "proc/meminfo", "MemAvailable:")
    groups = root / "sys/fs/cgroup"
    for limit, in_use, statistics in _CONTAINER_FILES:
        try:
            # Files that the kernel keeps in memory give way.
            kept = _in_file(groups / statistics, "inactive_file")
            held = int((groups / in_use).read_text(encoding="ascii")) - kept
            left = int((groups / limit).read_text(encoding="ascii")) - held
        except (OSError, ValueError):
            continue  # Of the other version, or "max".
        available = min(available, left)
    return available


def data_size() -> int:
    """Returns the bytes of this process that `RLIMIT_DATA` counts."""
    return 1024 * _in_file(Path("/proc/self/status"), "VmData:")


@contextmanager
def data_limit(limit: int) -> Iterator[None]:
    """Makes allocations of this process fail that would bring it above `limit` bytes."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    before = [value for value in (soft, hard) if value != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *before]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
