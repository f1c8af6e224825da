# SPDX-License-Identifier: Apache-2.0
"""What is in a process's memory: every readable mapping searched, for raw bytes and for hex."""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.peers import all_peers_expected

_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r\S+ \S+ \S+ \S+ *(.*)$", re.MULTILINE)
_KERNEL = ("[vvar]", "[vvar_vclock]", "[vsyscall]")  # the kernel's, the same in every process


def found_in(pid: int, secrets: Mapping[str, bytes]) -> set[str]:
    """Return which secrets are in the memory of a process, in which form.

    A process that ends while it is read is a failure: an empty answer must mean something.
    """
    needles = {
        f"{name}, {form}": needle
        for name, secret in secrets.items()
        for form, needle in _forms(secret).items()
    }
    found = set()
    searched = 0
    for mapping in _mappings(pid):
        searched += len(mapping)
        found |= {name for name, needle in needles.items() if needle in mapping}
    assert searched > 1_000_000, "a Python process has more memory than that"
    return found


def psk_secrets(psk: bytes) -> dict[str, bytes]:
    """Return a PSK and everything RFC 8446 §7.1 makes of it before a handshake, by hashlib."""
    early = hmac.digest(bytes(32), psk, "sha256")
    empty = hashlib.sha256(b"").digest()
    binder = _expand_label(early, b"ext binder", empty)
    return {
        "PSK": psk,
        "early secret": early,
        "derived secret": _expand_label(early, b"derived", empty),
        "binder key": binder,
        "binder finished key": _expand_label(binder, b"finished", b""),
    }


def _expand_label(secret: bytes, label: bytes, context: bytes) -> bytes:
    label = b"tls13 " + label
    info = b"\0\x20" + bytes((len(label),)) + label + bytes((len(context),)) + context
    return hmac.digest(secret, info + b"\1", "sha256")


def _forms(secret: bytes) -> dict[str, bytes]:
    assert len(secret) >= 16, "a short needle is found by chance"
    text = secret.hex().encode()
    return {"raw": secret, "reversed": secret[::-1], "hex": text, "HEX": text.upper()}


def _mappings(pid: int) -> list[bytes]:
    """Return the content of every readable mapping."""
    contents = []
    if not os.access(f"/proc/{pid}/mem", os.R_OK) and not all_peers_expected():
        pytest.skip("no right to read the memory of other processes")
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, stop, name in _MAPPING.findall(Path(f"/proc/{pid}/maps").read_text()):
            if name in _KERNEL:
                continue
            memory.seek(int(start, 16))
            try:
                contents.append(_read(memory, int(stop, 16) - int(start, 16)))
            except OSError:
                assert name.startswith(("/dev/", "[")), f"{name} could not be read"
    return contents


def _read(memory, size: int) -> bytes:
    parts = []
    while size:
        data = memory.read(size)
        if not data:
            break
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
