# SPDX-License-Identifier: Apache-2.0
"""Every decoder that meets outside bytes, fed mutations of what it likes: declared errors only.

Bounded here; longer with the number of inputs per decoder in IOSE_FUZZ_RUNS:

    make fuzz FUZZ_RUNS=20000
"""

import ast
import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iose.crypto import passphrase
from tests.fuzz.targets import INNER, TARGETS

RUNS = int(os.environ.get("IOSE_FUZZ_RUNS", "60"))
SOURCE = Path(__file__).resolve().parents[2] / "src" / "iose"
TELLING = (0x00, 0x01, 0x7F, 0x80, 0xFF, ord('"'), ord("\n"), ord("9"), ord("-"), ord("["))
# how decoders are named here, and what their first argument is
NAMES = ("decode", "from_", "load_", "parse_", "read_", "receive_data", "unwrap", "handshake_size")
INPUTS = (
    "bytes",
    "bytes | bytearray",
    "bytes | None",
    "str",
    "Path",
    "Result",
    "Mapping[str, object]",
)


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Return a seed with a few changes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["flip", "set", "insert", "cut", "double", "grow"])):
            case "flip" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "set" if place < len(data):
                data[place] = draw(st.sampled_from(TELLING))
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=6))
            case "double":
                size = draw(st.integers(1, 40))
                data[place:place] = data[place : place + size]
            case "grow":
                data += draw(st.binary(min_size=1, max_size=40))
            case _:
                del data[place : place + draw(st.integers(1, 20))]
    return bytes(data)


@pytest.mark.timeout(0 if RUNS > 1000 else 60)
@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=RUNS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_bytes_are_decoded_or_refused_as_declared(name, data, monkeypatch):
    monkeypatch.setattr(passphrase, "COST_LOG2_LIMIT", 6)  # a file may ask for a gigabyte
    target = TARGETS[name]
    content = data.draw(mutated(target.seeds) | st.binary(max_size=200))
    with contextlib.suppress(*target.errors):
        target.decode(content)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_reached_by_its_seeds(name, monkeypatch):
    monkeypatch.setattr(passphrase, "COST_LOG2_LIMIT", 6)
    target = TARGETS[name]
    accepted = 0
    for seed in target.seeds:
        try:
            target.decode(seed)
            accepted += 1
        except target.errors:
            continue
    assert accepted, "no seed is well-formed: the fuzzer would not come far"


def decoders() -> set[str]:
    """Return everything in the source that is named like a decoder and takes bytes or text."""
    found = set()
    for path in sorted(SOURCE.rglob("*.py")):
        place = str(path.relative_to(SOURCE))
        for prefix, function in _functions(ast.parse(path.read_text()), ""):
            arguments = [one for one in function.args.args if one.arg not in {"self", "cls"}]
            if not arguments or not function.name.startswith(NAMES):
                continue
            annotation = arguments[0].annotation
            if annotation is not None and ast.unparse(annotation) in INPUTS:
                found.add(f"{place} {prefix}{function.name}")
    return found


def _functions(tree: ast.AST, prefix: str):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield prefix, node


def test_no_decoder_is_forgotten():
    covered = {name for target in TARGETS.values() for name in target.covers}
    assert decoders() - covered - INNER.keys() == set()


def test_nothing_is_listed_that_is_gone():
    names = set(INNER) | {n for target in TARGETS.values() for n in target.covers}
    gone = [
        name
        for name in names
        if (path := SOURCE / name.split(" ")[0])
        and not (path.exists() and name.split(" ")[1].split(".")[-1] in path.read_text())
    ]
    assert gone == []
