"""What pages look like beyond the theme: tables, long names, and what a link to a page shows.

- A table of sentences becomes a list on a phone (``stacked``): each row an item, its first cell the
  head, and with more than two columns (``labelled``), each cell says what its column has; a head
  that is a number says so, too. Columns of numbers are set right (``number``), and cells of tables
  of figures do not break. Bold words that the row above begins with, too, are said once.
- A long name in ``code`` may break after a dot, a slash or an underscore. The ending of a file's
  name stays with it. A short one does not break, nor after a hyphen (``whole``).
- Each page says in its head what it is about: its first paragraph, for search engines and for
  whoever shows a link to it.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.writers.html5 import HTML5Translator

SENTENCE = 30
"""A second column of so many characters in the mean is one of sentences."""

FIGURE = 24
"""No cell of a table of figures is longer, but for those of its first column."""

LONG_NAME = 26
"""A name of fewer characters does not break."""

DESCRIPTION = 200
"""The longest description of a page, in characters."""

_NUMBER = re.compile(r"[<>~-]?\d[\d,.]*(?: (?:to|/) \d[\d,.]*)*(?: ?[\w%µ/]+){0,4}")
_COUNT = re.compile(r"\d[\d,.]*")
_BREAK = re.compile(r"(?<=[\w)\]>])([._/=@:\\-]+)(?=[\w{(\[<\"']{4})")


class Tables(SphinxPostTransform):
    """Gives each table the classes by which ``site.css`` sets it."""

    default_priority = 900

    def run(self, **_: Any) -> None:
        """Look at each table."""
        for table in self.document.findall(nodes.table):
            rows = [list(row.children) for row in table.findall(nodes.row)]
            heads = [list(row.children) for head in table.findall(nodes.thead) for row in head]
            body = rows[len(heads) :]
            _classify(table, heads, body)
            _say_once([row[0] for row in body])


def _classify(table: nodes.table, heads: list[list[Any]], body: list[list[Any]]) -> None:
    width = max(len(row) for row in body)
    columns = [[row[at] for row in body if len(row) > at] for at in range(width)]
    texts = [[cell.astext() for cell in column] for column in columns]
    classes = set(table["classes"])
    mean = sum(map(len, texts[-1])) / len(texts[-1])
    if width == 2 and mean >= SENTENCE:
        classes.add("stacked")
        _label(heads, body, columns=1)
    if width > 2 and all(len(text) <= FIGURE for column in texts[1:] for text in column):
        classes.add("figures")
    elif width > 2 and heads and "defaults" not in classes:
        classes |= {"stacked", "labelled"}
        _label(heads, body, columns=width)
    table["classes"] = sorted(classes)
    for at, column in enumerate(columns[1:], 1):
        written = [text for text in texts[at] if text]
        if written and all(_NUMBER.fullmatch(text) for text in written):
            for cell in [*column, *(row[at] for row in heads if len(row) > at)]:
                cell["classes"].append("number")


def _label(heads: list[list[Any]], body: list[list[Any]], *, columns: int) -> None:
    """Name the column in so many cells of each row; in the first, if there are numbers below it."""
    if not heads:
        return
    has_numbers = any(_COUNT.fullmatch(row[0].astext()) for row in body)
    for row in body:
        for at, (cell, head) in enumerate(zip(row[:columns], heads[-1], strict=False)):
            cell["label"] = head.astext() if at or has_numbers else ""
            if columns > 1 and not cell.astext().strip():
                cell["classes"].append("empty")


def _visit_entry(translator: HTML5Translator, node: nodes.entry) -> None:
    start = len(translator.body)
    HTML5Translator.visit_entry(translator, node)
    if node.get("label"):
        tag = translator.body[start]
        label = f'data-label="{escape(node["label"])}"'
        translator.body[start] = tag.replace("<td", f"<td {label}", 1)


def _depart_entry(translator: HTML5Translator, node: nodes.entry) -> None:
    HTML5Translator.depart_entry(translator, node)


def _say_once(cells: list[Any]) -> None:
    """Leave away the bold words before a colon that the cell above begins with, too."""
    last = ""
    for cell in cells:
        bold = next(iter(cell.findall(nodes.strong)), None)
        head = ""
        if bold is not None and bold.parent[0] is bold and len(bold.parent) > 1:
            head, paragraph = bold.astext(), bold.parent
            if head == last and paragraph[1].astext().startswith(": "):
                paragraph[1] = nodes.Text(paragraph[1].astext()[2:])
                del paragraph[0]
        last = head


def _visit_literal(translator: HTML5Translator, node: nodes.literal) -> None:
    node["looks_start"] = len(translator.body)
    HTML5Translator.visit_literal(translator, node)


def _depart_literal(translator: HTML5Translator, node: nodes.literal) -> None:
    HTML5Translator.depart_literal(translator, node)
    start = node["looks_start"]
    text = "".join(translator.body[start:])
    translator.body[start:] = [re.sub(r'(<span class="pre">)([^<>]+)(?=<)', _breakable, text)]


def _breakable(word: re.Match[str]) -> str:
    if len(word[2]) >= LONG_NAME:
        return word[1] + _BREAK.sub(r"\1<wbr>", word[2])
    # A browser would break it after a hyphen.
    return word[0].replace('"pre"', '"pre whole"') if "-" in word[2] else word[0]


def _describe(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], doctree: Any
) -> None:
    if doctree is None:
        return
    paragraph = next(iter(doctree.findall(nodes.paragraph)), None)
    about = " ".join(paragraph.astext().split()) if paragraph is not None else ""
    about = shortened(about, DESCRIPTION)
    title = re.sub(r"<[^>]+>", "", context["title"])
    if page != app.config.root_doc:
        title += f" - {app.config.project}"
    said = {"og:title": title, "og:description": about, "og:site_name": app.config.project}
    tags = [f'<meta name="description" content="{escape(about)}">']
    tags += [
        f'<meta property="{name}" content="{value}">'
        for name, value in (
            ("og:type", "website"),
            *((name, escape(text)) for name, text in said.items()),
        )
    ]
    tags.append('<meta name="twitter:card" content="summary">')
    context["metatags"] = context.get("metatags", "") + "\n" + "\n".join(tags)


def shortened(text: str, most: int) -> str:
    """As many whole sentences as fit, or as many words."""
    if len(text) <= most:
        return text
    sentences = text[:most].rpartition(". ")[0]
    return f"{sentences}." if sentences else text[: most - 2].rpartition(" ")[0] + " …"


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_post_transform(Tables)
    app.add_node(nodes.entry, override=True, html=(_visit_entry, _depart_entry))
    app.add_node(nodes.literal, override=True, html=(_visit_literal, _depart_literal))
    app.connect("html-page-context", _describe)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
