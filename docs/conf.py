"""How Sphinx builds these pages: `make docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[1]))

project = "relaycall"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "relaycall"
html_show_copyright = False

# Pages are read on a forge too: plain Markdown, with the anchors that headings have there.
myst_heading_anchors = 3
highlight_language = "text"

# Docstrings: sections as in "Args:", names in single backticks, the values of enumerations without a docstring each.
default_role = "literal"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_lexer("mermaid", TextLexer)  # nothing here draws diagrams: their source is shown
    app.connect("autodoc-process-docstring", before_napoleon, priority=100)
    app.connect("autodoc-process-docstring", after_napoleon, priority=900)


def before_napoleon(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Put an empty comment before what is said of a property: of "In use: one of them" it would make a type."""
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]


def after_napoleon(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Join two attributes that are described together: of ":ivar old, new:" Sphinx would take the first for a type."""
    lines[:] = [re.sub(r"(?<=\w), (?=[\w, ]+:)", "/", line) if line.startswith(":ivar ") else line for line in lines]
