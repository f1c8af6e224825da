# SPDX-License-Identifier: Apache-2.0
"""Boards on serial lines that compute as identity modules, behind a pseudo-terminal."""

import asyncio
import os
import threading
import tty
from collections.abc import Iterator

import pytest

from iose.client.errors import ModuleError, ModulePinError
from iose.client.module_place import ModuleForm, ReaderKind, ReaderModule
from iose.client.module_text import TextModule

pytest.importorskip("serial")

HASH = bytes.fromhex("E479370AF6F743A3C2ABBCBA4B67BD016CD0207D2ADFCC5260EBCBAF0175EDB9")
BINDER = "6B1BF24F43B60DE0597561289D840AA15E83ADA24E7E6C04AB3B10BFAE4D4591"
HANDSHAKE = "206D85B01FCEA8EA0C44FEE20475FB012F9C0AF0C1B29A54CA04B753AEF62F18"
TIMEOUT_S = 5.0


class Board:
    """Answers lines on the far side of a pseudo-terminal, as a test says.

    Attributes:
        heard: Lines, in order, without the probes.
        answers: Answer by the first word of a line.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.answers = {
            "": "Ready",
            "user": "OK",
            "off": "OK",
            "binder": BINDER,
            "derive": HANDSHAKE,
        }
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.device = os.ttyname(self._theirs)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        held = b""
        while (piece := os.read(self._ours, 1000)) != b"\x04":
            *lines, held = (held + piece).split(b"\r\n")
            for line in lines:
                text = line.decode()
                if text:
                    self.heard.append(text)
                os.write(self._ours, self.answers[text.partition(" ")[0]].encode() + b"\r\n")

    def stop(self) -> None:
        os.write(self._theirs, b"\x04")
        self._thread.join()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board()
    yield board
    board.stop()


def module(board: Board, pin: bytes = b"0000") -> ReaderModule:
    return ReaderModule(ReaderKind.SERIAL, board.device, form=ModuleForm.TEXT, pin=pin)


def session(board: Board, pin: bytes = b"0000") -> TextModule:
    return TextModule(module(board, pin), pin_refused=lambda: None, timeout_s=TIMEOUT_S)


def use(found: TextModule) -> tuple[bytes, bytes]:
    async def compute() -> tuple[bytes, bytes]:
        await found.open()
        try:
            return await found.binder(HASH), await found.handshake_secret(HASH)
        finally:
            await found.close()

    return asyncio.run(compute())


def test_a_board_computes_binder_and_handshake_secret(board: Board):
    assert use(session(board)) == (bytes.fromhex(BINDER), bytes.fromhex(HANDSHAKE))
    digits = HASH.hex().upper()
    assert board.heard == ["user 0000", f"binder {digits}", f"derive {digits}", "off"]


def test_it_may_be_used_again(board: Board):
    found = session(board)
    assert use(found) == use(found)


def test_a_board_without_a_pin_is_asked_for_a_session_alone(board: Board):
    use(session(board, b""))
    assert board.heard[0] == "user"


def test_a_board_may_write_small_letters_and_blanks(board: Board):
    board.answers["binder"] = f" {BINDER.lower()} "
    assert use(session(board))[0] == bytes.fromhex(BINDER)


def test_a_refused_pin_is_forgotten_and_not_tried_again(board: Board):
    board.answers["user"] = "ERROR"
    told = []
    found = TextModule(
        module(board), pin_refused=lambda: told.append("refused"), timeout_s=TIMEOUT_S
    )
    with pytest.raises(ModulePinError, match=r"the PIN was refused$"):
        use(found)
    with pytest.raises(ModulePinError, match="refused before"):
        use(found)
    assert told == ["refused"]
    assert [line for line in board.heard if line != "off"] == ["user 0000"]


def test_a_board_that_wants_a_pin_says_so(board: Board):
    board.answers["user"] = "ERROR"
    with pytest.raises(ModuleError, match="without a PIN"):
        use(session(board, b""))


@pytest.mark.parametrize("answer", ["ERROR", "", BINDER[:-2], BINDER + "00", "zz" * 32, "OK"])
def test_a_board_that_does_not_compute_ends_the_session(board: Board, answer: str):
    board.answers["binder"] = answer
    with pytest.raises(ModuleError, match="does not compute"):
        use(session(board))
    assert board.heard[-1] == "off"


def test_a_line_that_is_not_there_cannot_be_reached():
    nowhere = ReaderModule(ReaderKind.SERIAL, "/dev/iose-none", form=ModuleForm.TEXT, pin=b"")
    with pytest.raises(ModuleError, match="cannot be reached"):
        use(TextModule(nowhere, pin_refused=lambda: None, timeout_s=TIMEOUT_S))


def test_a_board_that_is_not_open_computes_nothing(board: Board):
    with pytest.raises(ModuleError, match="not open"):
        asyncio.run(session(board).binder(HASH))
