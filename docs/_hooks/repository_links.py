"""For the documentation: what a page links to beside the folder of the pages is in the repository."""

import posixpath
import re
from typing import Any


def on_page_markdown(markdown: str, *, page: Any, config: Any, **arguments: Any) -> str:
    """Returns the page with such links made those of the repository."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def linked(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        inside = path.startswith("docs/")
        return match[0] if inside else f"]({config.repo_url}/blob/main/{path})"

    return re.sub(r"\]\((\.\./[^)#]+)\)", linked, markdown)
