"""The expressions for the opcodes of a pickle are compiled when they are first used."""

from __future__ import annotations

import re
import subprocess
import sys

from miros_rabbitmq.wire.opcodes import Later


def test_an_expression_finds_what_the_compiled_one_does() -> None:
    source = rb"a.|(b)"
    pattern, later = re.compile(source, re.DOTALL), Later(source)
    text = b"xa\nb"
    assert later.findall(text, 1) == pattern.findall(text, 1)
    for name in ("match", "fullmatch"):
        for at in range(len(text)):
            found, expected = getattr(later, name)(text, at), getattr(pattern, name)(text, at)
            assert (found and found.span()) == (expected and expected.span())


def test_an_import_compiles_none_of_them() -> None:
    script = (
        "from miros_rabbitmq.wire import opcodes\n"
        "print([name for name, one in vars(opcodes).items()\n"
        "       if isinstance(one, opcodes.Later) and 'match' in vars(one)])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert ended.stdout.strip() == b"[]"
