"""Results of many trainings in one file, kept as they come."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from evidence.benchmarks.measuring.saving import add_save


def parse(doc: str, tasks: Iterable[str], small_task: str) -> argparse.Namespace:
    """Parses the command line of a benchmark of many trainings."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(tasks)
    parser.add_argument("--tasks", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5, help="(default: 5)")
    add_save(parser)
    parser.add_argument("--resume", action="store_true", help="go on with what was saved")
    parser.add_argument("--small", action="store_true", help="one task and seed, next to nothing")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error("--seeds must be at least 1")
    if arguments.small:
        arguments.tasks, arguments.seeds = [small_task], 1
    return arguments


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
