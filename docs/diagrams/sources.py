"""Reads statecharts out of the sources of programs: flat state functions, and factories.

Pure: it reads syntax trees, and imports and runs nothing.

- A flat state function is decorated with ``spy_on``. Its parent is what it assigns to
  ``chart.temp.fun``; it handles what it compares ``e.signal`` with.
- A factory's state is made by ``create(state=...)``, and handles what it ``catch``es; ``nest``
  names its parent.

What a state does at a signal is told in a few words: what it transmits, which timers it sets.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .statechart import State, Statechart, Transition

_HOOKS = {"ENTRY_SIGNAL": "entry", "EXIT_SIGNAL": "exit", "INIT_SIGNAL": "init"}


@dataclass
class _Found:
    name: str
    parent: str = ""
    reactions: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """Signal, target or nothing, what it does."""


def charts_of(path: Path) -> dict[str, Statechart]:
    """Every statechart of a module, by a name: the class of the chart, in small letters."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    started = set(_started(tree))
    if not started:
        # Another program of the same folder starts them.
        for other in path.parent.glob("*.py"):
            imports = f"from {path.stem} import"
            text = other.read_text(encoding="utf-8")
            if imports in text and not other.name.startswith("test_"):
                started |= set(_started(ast.parse(text)))
    return _charts_in(tree, started)


def charts_on(page: Path, program: str) -> dict[str, Statechart]:
    """Every statechart of a whole program that a page shows, by a name."""
    marked = (
        rf"^\.\. whole program: {re.escape(program)}\n\n\.\. code-block:: python\n((?: +.*\n|\n)+)"
    )
    found = re.search(marked, page.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, (page, program)
    tree = ast.parse(textwrap.dedent(found[1]))
    return _charts_in(tree, set(_started(tree)))


def _charts_in(tree: ast.Module, started: set[str]) -> dict[str, Statechart]:
    found = {**_flat_charts(tree), **_factories(tree)}
    return {name: _statechart(list(states.values()), started) for name, states in found.items()}


def _statechart(found: list[_Found], started: set[str]) -> Statechart:
    states, transitions = [], []
    starts = [one.name for one in found if one.name in started]
    for one in found:
        inside = []
        for signal, target, does in one.reactions:
            if target and signal == "INIT_SIGNAL":
                starts.append(target)
            if target and signal != "INIT_SIGNAL":
                transitions.append(Transition(one.name, target, signal, ", ".join(does)))
            elif does:
                inside += _wrapped(f"{_HOOKS.get(signal, signal)} / ", does)
            elif signal not in _HOOKS:
                inside.append(signal)
        states.append(State(one.name, one.parent, tuple(inside)))
    return Statechart(states, transitions, starts)


def _wrapped(head: str, does: list[str]) -> list[str]:
    """A reaction in lines: if it is long, each thing that is done has its own."""
    whole = head + ", ".join(does)
    if len(whole) <= 34:
        return [whole]
    return [head + does[0], *("\N{NO-BREAK SPACE}" * 4 + one for one in does[1:])]


# Flat state functions


def _flat_charts(tree: ast.Module) -> dict[str, dict[str, _Found]]:
    charts: dict[str, dict[str, _Found]] = {}
    for function in _functions(tree):
        if not any("spy_on" in ast.unparse(one) for one in function.decorator_list):
            continue
        chart = function.args.args[0]
        kind = ast.unparse(chart.annotation) if chart.annotation else chart.arg
        name = kind.strip("'\"").rpartition(".")[2].lower()
        if name in ("any", "activeobject", "networkedactiveobject"):
            name = chart.arg
        found = _Found(function.name)
        for node in ast.walk(function):
            if isinstance(node, ast.If):
                for signal in _signals_of(node.test):
                    # A state that tells apart two payloads of a signal has two transitions.
                    for target in _targets(node.body, {}) or [""]:
                        found.reactions.append((signal, target, _does(node.body)))
            elif isinstance(node, ast.Assign):
                found.parent = _parent(node) or found.parent
        found.reactions.sort(key=lambda one: _position(one[0]))
        charts.setdefault(name, {})[function.name] = found
    return charts


def _position(signal: str) -> int:
    order = ["ENTRY_SIGNAL", "INIT_SIGNAL", "EXIT_SIGNAL"]
    return order.index(signal) if signal in order else len(order)


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _signals_of(test: ast.expr) -> Iterator[str]:
    """Which signals a condition compares ``e.signal`` with."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith(".signal"):
            for other in node.comparators:
                for each in ast.walk(other):
                    name = _signal(each)
                    if name:
                        yield name


def _signal(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "signals":
        return node.attr
    return ""


def _parent(node: ast.Assign) -> str:
    """The state that ``chart.temp.fun`` is set to; nothing for the outermost."""
    targets, values = node.targets, [node.value]
    if isinstance(targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
        targets, values = targets[0].elts, node.value.elts
    for target, value in zip(targets, values, strict=False):
        if ast.unparse(target).endswith(".temp.fun") and isinstance(value, ast.Name):
            return value.id
    return ""


# Factories


def _factories(tree: ast.Module) -> dict[str, dict[str, _Found]]:
    charts: dict[str, dict[str, _Found]] = {}
    handlers = {function.name: function for function in _functions(tree)}
    for scope, name in _scopes(tree):
        states: dict[str, _Found] = {}
        variables: dict[str, str] = {}
        # Two walks: a handler may lead to a state that is made further down.
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and _created(node.value):
                state = _created(node.value)
                states[state] = _Found(state)
                variables[_last(node.targets[0])] = state
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and _created(node.value):
                states[_created(node.value)].reactions = [
                    (signal, target, _does(handlers[handler].body))
                    for signal, handler in _caught(node.value)
                    for target in _targets(handlers[handler].body, variables, states) or [""]
                ]
        for state, parent in _nested(scope):
            states[variables[state]].parent = variables.get(parent, "")
        if states:
            charts[name] = states
    return charts


def _scopes(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Where factories are made: a class, or a function or module that makes one, and its name."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node, node.name.lower()
        elif isinstance(node, ast.FunctionDef):
            owners = [_owner_of_create(one) for one in ast.walk(node)]
            yield node, next((one for one in owners if one), node.name)
    rest = [node for node in tree.body if not isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    module = ast.Module(body=rest, type_ignores=[])
    owners = [_owner_of_create(one) for one in ast.walk(module)]
    yield module, next((one for one in owners if one), "chart")


def _owner_of_create(node: ast.AST) -> str:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return ""
    owner = node.func.value
    return owner.id if node.func.attr == "create" and isinstance(owner, ast.Name) else ""


def _chain(node: ast.AST) -> Iterator[ast.Call]:
    """The calls of ``a.create(...).catch(...).to_method()``, the last first."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield node
        node = node.func.value


def _created(node: ast.AST) -> str:
    for call in _chain(node):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "create":
            value = _argument(call, 0, "state")
            return str(value.value) if isinstance(value, ast.Constant) else ""
    return ""


def _caught(node: ast.AST) -> list[tuple[str, str]]:
    caught = []
    for call in _chain(node):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "catch":
            signal, handler = _argument(call, 0, "signal"), _argument(call, 1, "handler")
            if signal is not None and handler is not None:
                caught.append((_signal(signal), ast.unparse(handler).rpartition(".")[2]))
    return caught[::-1]


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[position] if len(call.args) > position else None


def _nested(scope: ast.AST) -> Iterator[tuple[str, str]]:
    """Each state that is nested and its parent, by the names of their variables."""
    loops: dict[str, list[str]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.For) and isinstance(node.iter, (ast.Tuple, ast.List)):
            loops[ast.unparse(node.target)] = [_last(one) for one in node.iter.elts]
    for node in ast.walk(scope):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr == "nest":
            state, parent = _argument(node, 0, "state"), _argument(node, 1, "parent")
            if state is not None and parent is not None:
                named = _last(state)
                for one in loops.get(named, [named]):
                    yield one, _last(parent)


# Of both kinds


def _targets(
    body: list[ast.stmt], variables: dict[str, str], states: dict[str, _Found] | None = None
) -> list[str]:
    """The states that a handler may lead to, in the order of the source."""
    found: list[str] = []
    for node in _calls(body):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in ("trans", "to") and node.args:
            found += [_state(one, variables, states) for one in _choices(node.args[-1])]
    return [one for one in dict.fromkeys(found) if one]


def _choices(node: ast.expr) -> list[ast.expr]:
    """Both branches of ``a if b else c``, or the expression itself."""
    if isinstance(node, ast.IfExp):
        return [*_choices(node.body), *_choices(node.orelse)]
    return [node]


def _state(node: ast.expr, variables: dict[str, str], states: dict[str, _Found] | None) -> str:
    """The state that an expression stands for: a function, a variable, or a name in quotes."""
    if states is None:
        return node.id if isinstance(node, ast.Name) else ""
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and one.value in states:
            return str(one.value)
    return variables.get(_last(node), "")


def _last(node: ast.AST) -> str:
    """A name without its owner: ``switch.waiting`` in one place is ``self.waiting`` in another."""
    return ast.unparse(node).rpartition(".")[2]


def _calls(body: list[ast.stmt]) -> Iterator[ast.Call]:
    """The calls of a handler in the order of the source."""
    calls = [node for one in body for node in ast.walk(one) if isinstance(node, ast.Call)]
    return iter(sorted(calls, key=lambda node: (node.lineno, node.col_offset)))


def _does(body: list[ast.stmt]) -> list[str]:
    """What a handler does, in a few words."""
    words = {
        "transmit": "transmit {}",
        "cancel_events": "cancel {}",
        "post_lifo": "post {}",
        "publish": "publish {}",
        "defer": "defer",
        "recall": "recall",
    }
    done = []
    for call in _calls(body):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        signal = next(
            (_signal(node) for one in call.args for node in ast.walk(one) if _signal(node)), ""
        )
        if name == "post_fifo":
            is_timed = any(keyword.arg == "period" for keyword in call.keywords)
            done.append(f"{'timer' if is_timed else 'post'} {signal}".strip())
        elif name in words:
            done.append(words[name].format(signal).strip())
    return list(dict.fromkeys(done))


def _started(tree: ast.Module) -> Iterator[str]:
    """The names of the states that charts start in.

    That is what is given to ``start_at``, or what a function gives back beside a chart.
    """
    created: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _created(node.value):
            variable = ast.unparse(node.targets[0]).rpartition(".")[2]
            created.setdefault(variable, []).append(_created(node.value))
    for node in ast.walk(tree):
        name = ""
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(".start_at")
            and node.args
        ):
            name = ast.unparse(node.args[0]).rpartition(".")[2]
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            name = ast.unparse(node.value.elts[-1]).rpartition(".")[2]
        if name:
            yield from created.get(name, [name])
