"""For the documentation: puts the examples of docstrings into fences, as doctests have none."""

from typing import Any

import griffe


class FencedExamples(griffe.Extension):
    """Fences each run of lines that begins with `>>>` and ends with an empty line."""

    def on_object(self, *, obj: griffe.Object, **arguments: Any) -> None:
        """Changes the docstring of an object that was read."""
        if obj.docstring is None:
            return
        lines, inside = [], False
        for line in [*obj.docstring.value.splitlines(), ""]:
            if line.lstrip().startswith(">>>") and not inside:
                lines.append("```pycon")
                inside = True
            if inside and not line.strip():
                lines.append("```")
                inside = False
            lines.append(line)
        obj.docstring.value = "\n".join(lines)
