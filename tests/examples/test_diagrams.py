"""The diagrams of the documentation are up to date, and show what the code has."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import miros
import pytest
from cryptography.fernet import Fernet

import miros_rabbitmq
from docs.diagrams import canvas, imports, language, pictures, sources, statechart
from docs.diagrams.drawings import DRAWINGS, classes, examples, hosts, house, inside, wire
from miros_rabbitmq.amqp.link_state import LIFE, SessionState
from miros_rabbitmq.exceptions import RejectReason
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.wire import message, record

from ..unit import test_imports
from .documents import ROOT

PACKAGE = Path(miros_rabbitmq.__file__).parent
SVG = "{http://www.w3.org/2000/svg}"


def test_every_picture_is_as_its_source_has_it() -> None:
    assert pictures.out_of_date() == [], "make diagrams draws them anew"


def test_a_picture_that_somebody_changed_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "PICTURES", tmp_path)
    pictures.write_all()
    (tmp_path / "house.svg").write_text("<svg/>", encoding="utf-8")
    (tmp_path / "of_nothing.svg").write_text("<svg/>", encoding="utf-8")
    assert pictures.out_of_date() == ["house.svg", "of_nothing.svg"]
    assert pictures.write_all() == ["house.svg", "of_nothing.svg"]
    assert pictures.out_of_date() == []


def test_every_picture_is_shown_on_a_page() -> None:
    pages = [*(ROOT / "docs").glob("*.rst"), ROOT / "README.rst"]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    shown = set(re.findall(r"\.\. diagram:: (\w+)\n", text))
    shown |= set(re.findall(r"docs/pictures/(\w+)\.svg", text))
    shown |= set(re.findall(r"^   :narrow: (\w+)$", text, re.MULTILINE))
    assert shown <= set(DRAWINGS)
    # The page on examples shows their statecharts when it has them.
    assert {name for name in set(DRAWINGS) - shown if not name.startswith("chart_")} == set()


@pytest.mark.parametrize("name", DRAWINGS)
def test_texts_are_large_enough_within_the_picture_and_not_upon_each_other(name: str) -> None:
    root = ET.fromstring(DRAWINGS[name]().svg())  # noqa: S314  # our own
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert width <= 736, "as wide as the text of a page"
    assert root.find(f"{SVG}title") is not None
    places: list[tuple[float, float, float, float, str]] = []
    for text in root.iter(f"{SVG}text"):
        words, style = text.text or "", text.attrib.get("class", "")
        if not words:
            continue
        wide = canvas.width_as(words, style)
        at = {"middle": 0.5, "end": 1.0}.get(text.attrib.get("text-anchor", ""), 0.0)
        left, base = float(text.attrib["x"]) - at * wide, float(text.attrib["y"])
        assert left > -6, (words, left)
        assert left + wide < width + 6, words
        assert 8 < base < height, words
        places.append((left, left + wide * 0.9, base - 8, base, words))
    for number, (left, right, top, bottom, words) in enumerate(places):
        for other in places[number + 1 :]:
            is_apart = (
                other[0] >= right or other[1] <= left or other[2] >= bottom or other[3] <= top
            )
            assert is_apart, (words, other[4])


def test_within_a_page_a_picture_has_the_style_of_the_page_and_a_text_that_stands_for_it() -> None:
    directive = pytest.importorskip("docs._ext.diagram", reason="needs Sphinx")
    alone = DRAWINGS["house"]().svg()
    within = directive.within_page(alone, 'an "arrow" & more')
    assert "<style>" in alone
    assert "prefers-color-scheme" in alone
    assert "<style>" not in within
    assert "<title>" not in within
    root = ET.fromstring(within)  # noqa: S314  # our own
    assert root.attrib["aria-label"] == 'an "arrow" & more'
    assert root.attrib["role"] == "img"
    assert directive.described(alone).startswith("Imports point down only: amqp imports delivery")


def test_the_page_style_follows_the_switch_of_the_theme() -> None:
    style = language.page_style()
    assert "body[data-theme=dark] svg.mr{" in style
    assert "body:not([data-theme=light]) svg.mr{" in style
    # The smallest text has nine pixels and more where a picture is shown at its smallest.
    sizes = [float(size) for size in re.findall(r"font-size:([\d.]+)px", style)]
    least = float(re.findall(r"min-width:([\d.]+)px", DRAWINGS["house"]().svg())[0])
    assert min(sizes) * least / DRAWINGS["house"]().width >= 9


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, by WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("colours", [language.LIGHT, language.DARK], ids=["light", "dark"])
def test_text_can_be_read_on_every_colour(colours: dict[str, str]) -> None:
    for kind in language.KINDS:
        assert contrast(colours["ink"], colours[kind]) > 7
        assert contrast(colours["soft"], colours[kind]) > 4.5, kind
    for kind in ("chart", "broker", "mesh", "snoop", "no"):
        assert contrast(colours[f"{kind}-line"], colours["paper"]) > 4.5, kind
    assert language.LIGHT.keys() == language.DARK.keys()


# The classes


def class_definitions() -> dict[str, ast.ClassDef]:
    """Every class of the package by its name; of several with one name, the longest."""
    found: dict[str, ast.ClassDef] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                other = found.get(node.name)
                if other is None or len(other.body) < len(node.body):
                    found[node.name] = node
    return found


def attributes_of(definition: ast.ClassDef) -> set[str]:
    """What a class assigns to ``self``."""
    found = set()
    for node in ast.walk(definition):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
        ):
            found.add(node.attr)
    return found


def test_what_the_class_diagram_says_of_ownership_is_in_the_code() -> None:
    defined = class_definitions()
    for edge in classes.OWNED:
        assert edge.owned in defined, edge
        assert edge.attribute in attributes_of(defined[edge.owner]), edge
    for name, base in classes.INHERITS:
        assert issubclass(getattr(miros_rabbitmq, name), getattr(miros, base))


def test_every_class_of_the_class_diagram_exists() -> None:
    names = {text for text in classes.classes().texts if re.fullmatch(r"([A-Z][a-z]+){1,4}", text)}
    known = {*class_definitions(), *dir(miros)}
    assert len(names) >= 14
    assert names <= known


def test_every_class_and_module_that_the_page_on_architecture_names_exists() -> None:
    text = (ROOT / "docs/architecture.rst").read_text(encoding="utf-8")
    tree = text[text.index(".. container:: tree\n") : text.index("A connection's states\n")]
    names = set(re.findall(r"``((?:[A-Z][a-z]+)+)``", tree))
    assert {"Lookout", "EnvelopeTaker", "Allowance"} <= names
    defined = class_definitions()
    for name in names - {"Windows"}:
        assert name in defined, name
    for path in re.findall(r"``(amqp/\w+\.py)``", text):
        assert (PACKAGE / path).is_file()
    table = text[text.index("\n(root) ") : text.index("\n*Pure* means")]
    for module in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", table):
        assert (PACKAGE / f"{module}.py").is_file(), module


# The states of a connection


def expanded(chart: statechart.Statechart) -> set[tuple[str, str, str]]:
    """Every step: a transition of a group is one of each state in it."""
    parents = {state.name: state.parent for state in chart.states}
    found = set()
    for one in chart.transitions:
        for name in parents:
            outer = name
            while outer and outer != one.source:
                outer = parents[outer]
            if outer and name in SessionState.__members__:
                found.add((name, one.signal, one.target))
    return found


def test_the_states_of_a_connection_are_those_of_the_table() -> None:
    chart = classes.link_chart()
    assert expanded(chart) == {
        (state.name, step.name, to.name) for (state, step), to in LIFE.items()
    }
    assert set(classes.ORDER) == set(SessionState.__members__)


# The house


def test_the_imports_in_the_picture_are_those_of_the_package() -> None:
    edges: dict[str, set[str]] = {}
    for name, found in test_imports.ALL:
        floor = test_imports.floor_of(name)
        targets = {test_imports.floor_of(one[1:]) for one in found if one.startswith(".")}
        edges.setdefault(floor, set()).update(targets - {floor})
    assert imports.imports_between() == edges
    assert set(house.PLACES) == set(edges) - {"root"}
    assert all("root" in targets for floor, targets in edges.items() if floor != "root")
    # Arrows point down.
    for floor, targets in edges.items():
        for target in targets - {"root"}:
            assert house.PLACES[floor][1] < house.PLACES[target][1], (floor, target)


def test_direct_imports_leave_out_what_another_import_leads_to() -> None:
    assert imports.direct({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {
        "a": {"b"},
        "b": {"c"},
        "c": set(),
    }


# The wire and the receiver


def test_the_bytes_in_the_picture_are_those_of_the_format() -> None:
    assert [size for _, size in wire.HEADER] == [1, 1, 1, message.KEY_ID_BYTES, message.EPOCH_BYTES]
    assert sum(size for _, size in wire.HEADER) == message.HEADER_BYTES
    assert sum(size for _, size in wire.RECORD) == message.RECORD_OVERHEAD
    assert [size for _, size in wire.CONTENT if size] == [1, 8, 8, 2]
    assert sum(size for _, size in wire.CONTENT) == record._FIXED.size


def test_the_receiver_in_the_picture_rejects_for_every_reason_in_the_order_of_the_code() -> None:
    reasons = [why for _, _, whys in wire.CHECKS for why in whys if why.isupper()]
    assert set(reasons) == set(RejectReason.__members__)
    order = list(dict.fromkeys(reasons))
    # What is late is known only after its age was judged; the enumeration has it before.
    assert [one for one in order if one != "LATE"] == [
        name for name in RejectReason.__members__ if name != "LATE"
    ]


def test_the_limits_in_the_pictures_are_the_defaults() -> None:
    limits = Limits()
    said = " ".join(inside.publisher().texts + wire.receiver().texts + classes.link_states().texts)
    for words in (
        f"{limits.backlog_events:,} events, {limits.backlog_bytes // 2**20} MiB",
        f"at most {limits.batch_events} events",
        f"{limits.batch_bytes // 1000} kB",
        f"at most {limits.window_messages} unconfirmed",
        f"every {limits.tempo_fast_s * 1000:g} to {limits.tempo_slow_s * 1000:g} ms",
        f"{limits.batch_events // 2} events",
        f"at most {limits.prefetch_messages} messages ahead",
        f"{limits.reconnect_min_s:g} to {limits.reconnect_max_s:g} s",
        f"again after {limits.refused_retry_s:g} s",
    ):
        assert words in said, words
    assert f"{limits.snoop_queue_messages:,} lines" in hosts.three_networks().texts


def test_the_matrix_of_keys_has_a_sign_for_each() -> None:
    assert len(wire.MATRIX) == len(wire.WHO)
    assert {len(row) for row in wire.MATRIX} == {len(wire.CAN)}
    assert set("".join(wire.MATRIX)) <= set("y.p?")


def test_the_threads_in_the_picture_are_named_so_in_the_code() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for name in inside.THREADS:
        assert name.replace(" of fan", " of {").removeprefix("miros ") in source, name


def test_the_trace_in_the_overview_is_that_of_the_pages() -> None:
    pages = [*(ROOT / "docs").glob("*.rst"), ROOT / "README.rst"]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    for line in hosts.TRACE:
        assert line in text


# The statecharts of the examples


ALL_CHARTS = list(examples.charts())


def test_every_example_with_states_has_a_picture() -> None:
    programs = {path for _, path, _, _ in ALL_CHARTS}
    for path in examples.EXAMPLES.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"^\s*@spy_on|\.create\(state=", text, re.MULTILINE):
            assert path in programs, path


def loaded(path: Path) -> ModuleType:
    """A program as a module, without its main part."""
    spec = importlib.util.spec_from_file_location(f"drawn_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
        del sys.modules[spec.name]
    return module


class Anything:
    """Can be called, asked, reckoned and compared with; nothing is more or less than it."""

    def itself(self, *_: object, **__: object) -> Anything:
        return self

    __call__ = __getattr__ = __getitem__ = itself
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = itself
    __truediv__ = __rtruediv__ = __abs__ = __neg__ = __round__ = __enter__ = itself

    def no(self, *_: object) -> bool:
        return False

    __lt__ = __gt__ = __le__ = __ge__ = __contains__ = no

    def __index__(self) -> int:
        return 0

    __int__ = __len__ = __index__

    def __float__(self) -> float:
        return 0.0

    def __format__(self, _: str) -> str:
        return ""

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Anything]:
        return iter(())


class FakeChart:
    """Takes any call, and notes where a state function leads to."""

    def __init__(self) -> None:
        self.temp = SimpleNamespace(fun=None)
        self.went_to = ""
        self.top = object()

    def trans(self, target: Any) -> object:
        self.went_to = target.__name__
        return miros.return_status.TRAN

    def __getattr__(self, name: str) -> Any:
        return Anything()


def asked(function: Any, signal: int) -> FakeChart:
    """What a state function does with a signal, by calling what ``spy_on`` has decorated."""
    chart = FakeChart()
    event = SimpleNamespace(signal=signal, payload=Anything(), signal_name="")
    function.__wrapped__(chart, event)
    return chart


FLAT = [
    pytest.param(path, chart, id=picture)
    for picture, path, _, chart in ALL_CHARTS
    if "@spy_on" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize(("path", "chart"), FLAT)
def test_flat_states_do_what_the_picture_says(path: Path, chart: statechart.Statechart) -> None:
    module = loaded(path)
    drawn = {(one.source, one.signal, one.target) for one in chart.transitions}
    went = set()
    for state in chart.states:
        function = getattr(module, state.name)
        outer = asked(function, miros.signals.A_SIGNAL_THAT_NO_EXAMPLE_KNOWS).temp.fun
        assert getattr(outer, "__name__", "") == state.parent, state
        for signal in {signal for _, signal, _ in drawn}:
            target = asked(function, getattr(miros.signals, signal)).went_to
            if target:
                went.add((state.name, signal, target))
    # Conditions on what the chart remembers may hide some.
    assert went <= drawn
    assert went or not drawn


def test_the_callbacks_on_the_page_make_the_chart_of_the_picture_too() -> None:
    flat, callbacks = (
        sources.charts_on(ROOT / "docs" / "kinds.rst", program)["heater"]
        for program in ("flat.py", "callbacks.py")
    )
    assert len(flat.states) == 4
    assert len(flat.transitions) == 4
    assert set(flat.transitions) == set(callbacks.transitions)
    assert set(flat.states) <= set(callbacks.states), "the other chart of that program has one, too"
    assert set(flat.starts) == {"off", "heats"}


NETWORK: dict[str, Any] = {
    "rabbit_user": "robot",
    "rabbit_password": "rabbit",
    "mesh_encryption_key": Fernet.generate_key(),
    "rabbit_host": "127.0.0.2",
    "addresses": [],
}


def made_by(module: ModuleType) -> Iterator[Any]:
    """The charts that a program makes: by its function ``make``, or by its classes. None starts."""
    if hasattr(module, "make"):
        yield module.make(**NETWORK)[0]
        return
    for one in vars(module).values():
        is_factory = isinstance(one, type) and issubclass(one, miros_rabbitmq.NetworkedFactory)
        if is_factory and one.__module__ == module.__name__:
            wants_name = "name" in inspect.signature(one).parameters
            yield one("somebody", **NETWORK) if wants_name else one(**NETWORK)


def factories() -> Iterator[Any]:
    for picture, path, _, chart in ALL_CHARTS:
        if ".create(state=" in path.read_text(encoding="utf-8"):
            yield pytest.param(path, chart, id=picture)


@pytest.mark.parametrize(("path", "chart"), list(factories()))
def test_the_states_of_factories_are_nested_as_the_picture_says(
    path: Path, chart: statechart.Statechart
) -> None:
    names = {state.name for state in chart.states}
    made = next((one for one in made_by(loaded(path)) if set(one.states) == names), None)
    assert made is not None, f"let made_by make the chart of {path}"
    for state in chart.states:
        with made.parent_callback(state.name) as parent:
            assert parent.__name__ == (state.parent or "top"), state
