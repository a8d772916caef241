"""The one language of all diagrams: which colour, shape and line stands for what.

=============  =============================================================
blue           a chart, and what belongs to it
amber          a broker: a RabbitMQ node
green          the mesh, and the events on it
violet         the snoops: trace and spy
grey           a host, a thread (dashed outline), everything else
red            what is rejected, lost or not allowed
=============  =============================================================

A page and a picture that stands alone have the same rules. They differ in who says whether it is
dark: furo's switch, or the reader's system.
"""

from __future__ import annotations

SANS = "-apple-system, BlinkMacSystemFont, 'Segoe UI', Helvetica, Arial, sans-serif"
MONO = "'SFMono-Regular', Menlo, Consolas, Monaco, 'Liberation Mono', monospace"

LIGHT = {
    "ink": "#1c2530",
    "soft": "#56616e",
    "line": "#8b96a3",
    "paper": "#ffffff",
    "host": "#f3f5f8",
    "host-line": "#d3dae2",
    "card": "#ffffff",
    "chart": "#e4effc",
    "chart-line": "#2b6cb8",
    "broker": "#fdefdd",
    "broker-line": "#a9610f",
    "mesh": "#e1f3e9",
    "mesh-line": "#1e7a4b",
    "snoop": "#f0e8fb",
    "snoop-line": "#7b48b8",
    "thread": "#eceff3",
    "thread-line": "#64707d",
    "no": "#fbe7e6",
    "no-line": "#b83232",
}
DARK = {
    "ink": "#e4e8ed",
    "soft": "#a6b0bc",
    "line": "#77838f",
    "paper": "#131416",
    "host": "#1b2026",
    "host-line": "#38424d",
    "card": "#242b33",
    "chart": "#173150",
    "chart-line": "#74b0f2",
    "broker": "#432b11",
    "broker-line": "#f0a754",
    "mesh": "#133626",
    "mesh-line": "#5fca97",
    "snoop": "#2f2347",
    "snoop-line": "#bb98f0",
    "thread": "#2a3139",
    "thread-line": "#97a3af",
    "no": "#451d1d",
    "no-line": "#f28a86",
}

KINDS = ("host", "card", "chart", "broker", "mesh", "snoop", "thread", "no")
"""What a box can be."""

LINES = ("line", "chart", "broker", "mesh", "snoop", "thread", "no")
"""What a line can be."""


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--mr-{name}:{value};" for name, value in colours.items())


def _rules() -> str:
    """The rules of shapes, lines and texts."""
    rules = [
        "svg.mr text{fill:var(--mr-ink);font-size:13px}",
        "svg.mr .h{font-size:15px;font-weight:600}",
        "svg.mr .b{font-weight:600}",
        "svg.mr .s{font-size:12px}",
        "svg.mr text.q{font-size:12px;fill:var(--mr-soft)}",
        f"svg.mr .m{{font-family:{MONO};font-size:12px}}",
        f"svg.mr text.k{{font-family:{MONO};font-size:11.5px;fill:var(--mr-soft)}}",
        "svg.mr .n{font-size:11px;font-weight:600}",
        "svg.mr .paper{fill:var(--mr-paper);stroke:none}",
        "svg.mr .halo{paint-order:stroke;stroke:var(--mr-paper);stroke-width:4px;"
        "stroke-linejoin:round}",
        "svg.mr .over{paint-order:stroke;stroke:var(--mr-host);stroke-width:4px;"
        "stroke-linejoin:round}",
    ]
    for kind in KINDS:
        line = "host-line" if kind == "host" else "line" if kind == "card" else f"{kind}-line"
        rules.append(
            f"svg.mr .box-{kind}{{fill:var(--mr-{kind});stroke:var(--mr-{line});stroke-width:1.3}}"
        )
    rules.append("svg.mr .box-thread{stroke-dasharray:5 3}svg.mr .solid{stroke-dasharray:none}")
    for kind in LINES:
        line = "line" if kind == "line" else f"{kind}-line"
        rules += [
            f"svg.mr .l-{kind}{{fill:none;stroke:var(--mr-{line});stroke-width:1.6}}",
            f"svg.mr .f-{kind}{{fill:var(--mr-{line});stroke:none}}",
            f"svg.mr text.c-{kind}{{fill:var(--mr-{line})}}",
        ]
    rules += [
        "svg.mr .faint{fill-opacity:.4}",
        "svg.mr .thin{stroke-width:1.1}",
        "svg.mr .thick{stroke-width:2.4}",
        "svg.mr .dash{stroke-dasharray:5 4}",
        "svg.mr .dot{stroke-dasharray:1.5 4;stroke-linecap:round}",
        "svg.mr text.onfill{fill:var(--mr-paper)}",
        "svg.mr .triangle{fill:var(--mr-paper);stroke:var(--mr-line);stroke-width:1.3}",
    ]
    return "\n".join(rules)


def standalone_style() -> str:
    """The style of a picture that stands alone: dark where the reader's system is dark."""
    return (
        f"svg.mr{{font-family:{SANS};background:var(--mr-paper);{_variables(LIGHT)}}}\n"
        f"@media(prefers-color-scheme:dark){{svg.mr{{{_variables(DARK)}}}}}\n"
        f"{_rules()}\n"
    )


def page_style() -> str:
    """The style of pictures within a page: fonts from the page, dark where furo's switch says so.

    A picture is never shown below four fifths of its size: on a phone, it scrolls in its box.
    """
    return (
        "/* Drawn by docs/diagrams/language.py: make diagrams */\n"
        "figure.diagram{margin:1.5rem 0;text-align:center}\n"
        "figure.diagram .diagram-scroll{overflow-x:auto;overflow-y:hidden}\n"
        "figure.diagram svg{display:block;margin:0 auto;height:auto}\n"
        "figure.diagram figcaption{margin-top:.6rem;font-size:.875em;"
        "color:var(--color-foreground-secondary)}\n"
        "figure.diagram figcaption p{margin:0}\n"
        f"svg.mr{{font-family:inherit;{_variables(LIGHT)}}}\n"
        f"body[data-theme=dark] svg.mr{{{_variables(DARK)}}}\n"
        "@media(prefers-color-scheme:dark){"
        f"body:not([data-theme=light]) svg.mr{{{_variables(DARK)}}}}}\n"
        # Paper is set on purpose to what furo's page has, so that halos around labels vanish in it.
        "svg.mr{--mr-paper:var(--color-background-primary)!important}\n"
        "@media print{svg.mr{" + _variables(LIGHT).replace(";", "!important;") + "}}\n"
        f"{_rules()}\n"
    )
