"""Results of many trainings in one file, kept as they come."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Store:
    """What was measured so far, in a file that is whole at any time."""

    def __init__(self, path: Path | None, settings: dict[str, Any], resume: bool) -> None:
        self.path = path
        self.content: dict[str, Any] = {"settings": settings}
        if path is not None and path.exists():
            if not resume:
                sys.exit(f"{path} is there already. --resume goes on with it.")
            self.content = json.loads(path.read_text(encoding="utf-8"))
            if self.content["settings"] != settings:
                sys.exit(f"{path} was made with other settings: {self.content['settings']}")

    def get(self, part: str, name: str, measure: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what is filed under a name; measures and files it where there is nothing."""
        filed = self.content.setdefault(part, {})
        if name not in filed:
            filed[name] = measure(*arguments)
            if self.path is not None:
                partial = self.path.with_name(self.path.name + ".partial")
                partial.parent.mkdir(parents=True, exist_ok=True)
                partial.write_text(json.dumps(self.content), encoding="utf-8")
                partial.replace(self.path)
        return filed[name]
