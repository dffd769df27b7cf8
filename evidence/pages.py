"""The pages in docs/: written by hand, with marked places that the commands fill in.

A place is named after what stands in it, and the same table may stand on several pages:

    <!-- table: benchmarks/scale -->

    | what the command made |

    <!-- /table -->
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_PLACE = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def filled(page: Path) -> dict[str, str]:
    """Returns what stands in the places of a page, by their names."""
    found = _PLACE.findall(page.read_text(encoding="utf-8"))
    return {name: content.strip() for _, name, content, _ in found}


def fill(tables: Mapping[str, str], docs: Path = ROOT / "docs") -> None:
    """Puts tables into the places of these names on all pages of a folder.

    Args:
        tables: By the name of its place, each table in Markdown.
        docs: Path of the folder. Defaults to that of this repository.
    """

    def new(place: re.Match[str]) -> str:
        begin, name, _, end = place.groups()
        return f"{begin}\n{tables[name]}\n\n{end}" if name in tables else place[0]

    without_a_place = dict.fromkeys(tables)
    for page in sorted(docs.glob("**/*.md")):
        if not (names := filled(page).keys() & tables.keys()):
            continue
        text = page.read_text(encoding="utf-8")
        page.write_text(_PLACE.sub(new, text), encoding="utf-8")
        print(f"Written: {page}")
        for name in names:
            without_a_place.pop(name, None)
    for name in without_a_place:
        print(f"No page has a place for it: <!-- table: {name} --> <!-- /table -->")
