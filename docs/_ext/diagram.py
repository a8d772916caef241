"""The directive ``diagram``: shows a picture of ``docs/pictures`` within the page.

.. code-block:: rst

    .. diagram:: classes
       :alt: what it shows, for those who cannot see it; by default what the picture itself says
       :narrow: the name of the picture that a phone shows in its place

       The caption.

The picture becomes a part of the page, so that it has the page's font, can be searched, and follows
the page's switch between light and dark. ``docs/diagrams`` draws the pictures.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PICTURES = Path(__file__).parents[1] / "pictures"
STATIC = Path(__file__).parent / "static"


class diagram(nodes.General, nodes.Element):  # type: ignore[misc]  # noqa: N801  # nodes are named in small letters
    """A picture and its caption, which is its child."""


class Diagram(SphinxDirective):
    """The directive; its argument is the name of a picture, its content the caption."""

    has_content = True
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged,
        "narrow": directives.unchanged,
        "name": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Read the picture, and parse the caption."""
        svg = self._picture(self.arguments[0])
        narrow = self._picture(self.options["narrow"]) if "narrow" in self.options else ""
        node = diagram(svg=svg, narrow=narrow, alt=self.options.get("alt", described(svg)))
        if not self.content:
            raise self.error("a diagram needs a caption")
        caption = nodes.paragraph()
        found, messages = self.parse_inline(" ".join(self.content), lineno=self.content_offset)
        caption += found
        node += caption
        self.add_name(node)
        return [node, *messages]

    def _picture(self, name: str) -> str:
        path = PICTURES / f"{name}.svg"
        if not path.is_file():
            raise self.error(f"there is no picture {path.name}: make diagrams")
        self.env.note_dependency(str(path))
        return path.read_text(encoding="utf-8")


def described(svg: str) -> str:
    """What a picture says of itself."""
    found = re.search(r"<desc>(.*?)</desc>", svg, re.DOTALL)
    assert found is not None
    return found[1]


def within_page(svg: str, alt: str) -> str:
    """A picture as a part of a page: without a style, and with a text that stands for it.

    A browser would show a title as a tooltip wherever the mouse is.
    """
    svg = re.sub(r"<style>.*?</style>\n", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<title>.*?</title>\n<desc>.*?</desc>\n", "", svg, flags=re.DOTALL)
    return svg.replace('role="img"', f'role="img" aria-label="{escape(alt)}"', 1)


def visit_html(translator: Any, node: diagram) -> None:
    """Write the picture; the caption follows."""
    ids = f' id="{node["ids"][0]}"' if node["ids"] else ""
    translator.body.append(f'<figure class="diagram"{ids}>\n')
    for form in ("svg", "narrow"):
        if node[form]:
            picture = within_page(node[form], node["alt"])
            kind = "diagram-narrow" if form == "narrow" else "diagram-wide"
            # A box that scrolls can be reached by the keyboard, too.
            box = f'<div class="diagram-scroll {kind}" tabindex="0">'
            translator.body.append(f"{box}\n{picture}</div>\n")
    translator.body.append("<figcaption>\n")


def depart_html(translator: Any, _: diagram) -> None:
    """End the caption and the figure."""
    translator.body.append("</figcaption>\n</figure>\n")


def visit_text(translator: Any, node: diagram) -> None:
    """Formats other than HTML have the text that stands for the picture."""
    translator.add_text(f"[{node['alt']}]")
    raise nodes.SkipNode


def _add_style(_: Sphinx, config: Any) -> None:
    config.html_static_path.append(str(STATIC))


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_node(
        diagram,
        html=(visit_html, depart_html),
        text=(visit_text, None),
        latex=(visit_text, None),
        man=(visit_text, None),
        texinfo=(visit_text, None),
    )
    app.add_directive("diagram", Diagram)
    app.connect("config-inited", _add_style)
    app.add_css_file("diagrams.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
