"""The site: `python3 dev.py docs` builds it of these pages and the docstrings. Sphinx reads this file."""

import posixpath
import re
from typing import Any

from keras_onecycle import __version__

project = "keras_onecycle"
version = release = __version__
repository = "https://github.com/keras-onecycle/keras-onecycle"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
myst_heading_anchors = 3
# Raw tables are reached from the pages that speak of them.
suppress_warnings = ["toc.not_included"]

# In docstrings, `x` is code, as in Markdown.
default_role = "code"
autodoc_default_options = {"members": True, "inherited-members": "Callback, LearningRateSchedule"}
autodoc_inherit_docstrings = False  # Keras's hooks are told by Keras.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
# An example is copied without what it prints.
copybutton_prompt_text = ">>> |\\.\\.\\. "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = project
html_theme_options = {
    "github_url": repository,
    "navbar_end": ["theme-switcher", "navbar-icon-links"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages that stand alone.
html_sidebars = {page: [] for page in ("index", "api", "limits", "inside")}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False


def link_to_repository(app: Any, page: str, source: list[str]) -> None:
    """Makes links to what is beside the folder of the pages links to the repository."""
    folder = posixpath.join("docs", posixpath.dirname(page))

    def linked(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        return match[0] if path.startswith("docs/") else f"]({repository}/blob/main/{path})"

    source[0] = re.sub(r"\]\((\.\./[^)#]+)\)", linked, source[0])


def read_markdown_links(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Makes the links of a docstring, which are Markdown's as Keras's are, those of Sphinx."""
    lines[:] = [re.sub(r"\[([^]]+)\]\((https?://[^)]+)\)", r"`\1 <\2>`__", line) for line in lines]


def setup(app: Any) -> None:
    """Connects both."""
    app.connect("source-read", link_to_repository)
    app.connect("autodoc-process-docstring", read_markdown_links)
