"""A file that is written whole or not at all."""

import os
import shutil
import uuid
from pathlib import Path


def atomic_write(path: str | os.PathLike, text: str) -> None:
    """Writes a text file. One that is there keeps its mode, and a link stays: its target is written."""
    file = Path(path).resolve()
    # Of another name for each: two may write at the same time.
    partial = file.with_name(f"{uuid.uuid4().hex}.partial")
    try:
        partial.touch()
        if file.exists():
            shutil.copymode(file, partial)
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
