# SPDX-License-Identifier: Apache-2.0
"""Calls of several threads into the library of PC/SC: what must not meet there, does not."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from iose.transport.pcsc import scard
from iose.transport.pcsc.codes import Disposition
from iose.transport.pcsc.scard import Scard

PATIENCE_S = 15.0


class SlowEnd:
    """A library whose SCardDisconnect ends when the test says so, and which keeps count."""

    def __init__(self) -> None:
        self.is_in = threading.Event()
        self.may_end = threading.Event()
        self.said: list[str] = []

    def SCardDisconnect(self, _handle: int, _how: int) -> int:  # noqa: N802
        self.is_in.set()
        self.may_end.wait(PATIENCE_S)
        self.said.append("disconnected")
        return 0

    def SCardEstablishContext(self, _scope: int) -> tuple[int, int]:  # noqa: N802
        self.said.append("established")
        return 0, 1

    def SCardReleaseContext(self, _context: int) -> int:  # noqa: N802
        self.said.append("released")
        return 0


@pytest.mark.parametrize("is_stuck", [False, True])
def test_contexts_come_and_go_when_no_card_is_let_go_unless_that_is_stuck(monkeypatch, is_stuck):
    monkeypatch.setattr(scard, "ALONE_S", 0.01 if is_stuck else PATIENCE_S)
    library = SlowEnd()
    service = Scard(library)
    with ThreadPoolExecutor(3) as threads:
        leaving = threads.submit(service.disconnect, 1, Disposition.LEAVE)
        assert library.is_in.wait(PATIENCE_S)
        others = [
            threads.submit(service.establish_context),
            threads.submit(service.release_context, 1),
        ]
        if not is_stuck:
            library.may_end.set()
        for other in others:
            other.result(PATIENCE_S)
        library.may_end.set()
        leaving.result(PATIENCE_S)
    place = library.said.index("disconnected")
    assert place == (len(others) if is_stuck else 0)
    assert sorted(library.said) == ["disconnected", "established", "released"]
