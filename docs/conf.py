"""How Sphinx builds the site: `make docs`. Everything that a page needs comes from this folder."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "miros-rabbitmq"
author = "the authors of miros-rabbitmq"
project_copyright = f"2026, {author}"
release = version_of("miros-rabbitmq")
version = ".".join(release.split(".")[:2])

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "diagram"]

html_theme = "furo"
html_title = f"miros-rabbitmq {release}"
html_show_sphinx = False

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
