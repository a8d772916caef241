"""How Sphinx builds the site: `make docs`. Everything that a page needs comes from this folder."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.directives.code import LiteralInclude
from sphinx.domains.python._object import PyObject
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.pycode import ModuleAnalyzer

import miros_rabbitmq

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "miros-rabbitmq"
author = "the authors of miros-rabbitmq"
project_copyright = f"2026, {author}"
release = miros_rabbitmq.__version__
version = ".".join(release.split(".")[:2])

extensions = ["sphinx.ext.autodoc", "sphinx_copybutton", "diagram", "looks"]

# In docstrings, `name` is a name of this package; it must exist.
default_role = "py:obj"
nitpicky = True
nitpick_ignore = [
    ("py:class", "ChartSide"),  # of an argument that only this package gives
    # Of attributes that are for this package alone.
    ("py:class", "miros_rabbitmq.nets.failing.Failures"),
    ("py:class", "miros_rabbitmq.nets.node.Node"),
    ("py:class", "miros_rabbitmq.wire.keyring.KeyRing"),
]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
# The value of a default may belong to this machine, such as its environment.
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 72
add_module_names = False

html_theme = "furo"
html_title = f"miros-rabbitmq {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(Path(__file__).parent / "_ext" / "scorer.js")
html_favicon = "_static/favicon.svg"
html_js_files = ["find_line.js"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_domain_indices = False  # it would name one module
# Blocks without a language are what is typed into a shell, or what is printed.
highlight_language = "none"
pygments_style = "tango"
pygments_dark_style = "github-dark"
# A prompt or the output of a program is no part of what is copied.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

_SECTIONS: Any = Config(napoleon_use_ivar=True)
_PUBLIC = {id(getattr(miros_rabbitmq, name)): name for name in miros_rabbitmq.__all__}
_FOREIGN = {*sys.stdlib_module_names, "miros", "pika", "pytest", "cryptography"}

_LANGUAGES = {
    ".py": "python", ".sh": "sh", ".yml": "yaml", ".yaml": "yaml", ".toml": "toml", ".json": "json",
    ".ini": "ini", ".conf": "ini", ".cfg": "ini", ".service": "ini", "Dockerfile": "dockerfile",
}  # fmt: skip
"""The languages of the files that pages show."""

_WITHOUT_SIGNATURE = {
    "ConsumerStats", "Delivery", "DeliveryProblem", "Envelope", "Failure", "Limits", "NetsStats",
    "NetworkStats", "Peer", "PeersChanged", "ProbeLimits", "ProbeResult", "PublisherStats",
    "ScoutReport", "Stuck",
}  # fmt: skip
"""Records: their fields are described one by one, and users make hardly any of them."""


def _link(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Lead a name that is written with its module to the page that has it as a public name.

    Type hints have the module in which a class is defined, and users import it from the root.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    head, _, name = target.rpartition(".")
    if target.startswith("miros_rabbitmq."):
        found = getattr(sys.modules.get(head), name, None)
        if id(found) in _PUBLIC:
            domain = env.get_domain("py")
            public = f"miros_rabbitmq.{_PUBLIC[id(found)]}"
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, text)
        return None
    # Other projects' pages are elsewhere: their names stay text.
    is_builtin = hasattr(sys.modules["builtins"], target.partition(".")[0])
    return text if is_builtin or target.partition(".")[0] in _FOREIGN else None


def _shorten(
    _app: Any, _what: str, _name: str, found: Any, _options: Any, arguments: str, returns: str
) -> Any:
    """Leave out the arguments of enumerations and records, and show constants by their values."""
    if isinstance(found, type) and (
        issubclass(found, enum.Enum) or found.__name__ in _WITHOUT_SIGNATURE
    ):
        return "", None
    if not arguments:
        return None
    function = getattr(found, "__init__", None) if isinstance(found, type) else found
    function = inspect.unwrap(function) if callable(function) else None
    known = getattr(function, "__globals__", {})

    def shown(name: re.Match[str]) -> str:
        return f"={known[name[1]]!r}" if name[1] in known else name[0]

    # Not the name of a constant: readers want to know what it is.
    arguments = re.sub(r"=([A-Z][A-Z_0-9]+)\b", shown, arguments)
    return arguments, returns


class _Source(LiteralInclude):
    """A file that is shown: its name says in which language it is."""

    def run(self) -> Any:
        name = Path(self.arguments[0])
        language = _LANGUAGES.get(name.suffix) or _LANGUAGES.get(name.name)
        if language:
            self.options.setdefault("language", language)
        found = super().run()
        for block in (one for top in found for one in top.findall(nodes.literal_block)):
            # A part of a file ends with the empty lines before the next part.
            block.rawsource = block.astext().rstrip()
            block[:] = [nodes.Text(block.rawsource)]
        return found


class _Sections(GoogleDocstring):
    """The sections of a docstring; what follows ``Returns:`` is a sentence, without a type."""

    def _consume_returns_section(self, preprocess_types: bool = False) -> Any:
        return [("", "", self._dedent(self._consume_to_next_section()))]


def _read(app: Any, what: str, name: str, _found: Any, _options: Any, lines: list[str]) -> None:
    """Turn sections such as ``Args:`` into fields.

    Napoleon as an extension would also take what stands before a colon in the sentence of an
    attribute for its type. And autodoc gives a constant the docstring of its class, as the root has
    it from elsewhere.
    """
    variable = name.rpartition(".")[2]
    if what == "data" and variable in miros_rabbitmq._LATER:
        home = importlib.import_module(f"miros_rabbitmq.{miros_rabbitmq._LATER[variable]}")
        said = ModuleAnalyzer.for_module(home.__name__).find_attr_docs()
        lines[:] = said.get(("", variable), lines)
    if what in ("class", "exception", "function", "method", "property"):
        lines[:] = _Sections("\n".join(lines), _SECTIONS, app, "function", name).lines()


def setup(app: Any) -> None:
    app.add_directive("literalinclude", _Source, override=True)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # Sphinx says Variables
    app.connect("autodoc-process-docstring", _read)
    app.connect("missing-reference", _link)
    app.connect("autodoc-process-signature", _shorten)
