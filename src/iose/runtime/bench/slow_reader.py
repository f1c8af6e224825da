# SPDX-License-Identifier: Apache-2.0
"""A SIM array whose cards take a fixed time for each APDU, as a program of its own.

Its answer leaves that many milliseconds after the command came, whatever the software card behind
it needs: what somebody waits for besides is not the reader's doing. It prints its port, and ends
with its standard input. A thread per connection sleeps: that is true to a tenth of a millisecond.
"""

import socket
import socketserver
import sys
import threading
import time
from collections.abc import Mapping
from typing import BinaryIO, Final, Protocol, cast

from iose.protocols.sim_array import SimBoard, SimReply, encode_content, encode_reply
from iose.runtime.compose import TlsSeMaker
from iose.runtime.elements.owner import ElementPlan
from iose.transport.stack import drain_raw

SLOTS: Final = (101, 102)
LOOPBACK: Final = "127.0.0.1"
GREETING: Final = "iose slow reader"
DONE: Final = "000 done"
REFUSED: Final = SimReply(is_ok=False, text="not now")
_MS_PER_S: Final = 1000.0


def sen_of(slot: int) -> str:
    """Return the server name of the element in a slot."""
    return f"bench{slot}.com"


class _Card(Protocol):
    def power_on(self) -> bytes: ...

    def process(self, command: bytes) -> bytes: ...


class _Memory:
    """Persistent objects of a card that lives as long as this program."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def load(self) -> dict[str, bytes]:
        return dict(self._objects)

    def write(self, changes: Mapping[str, bytes | None]) -> None:
        self._objects.update((name, value) for name, value in changes.items() if value is not None)
        for name in [name for name, value in changes.items() if value is None]:
            self._objects.pop(name, None)

    def close(self) -> None:
        pass


def _make_card(slot: int) -> _Card:
    store, maker = _Memory(), TlsSeMaker()
    maker.personalise(store, ElementPlan(sen_of(slot), limits="chip", has_demo_keys=True))
    return maker.build(store)


class _Array(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, delay_s: float) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.delay_s = delay_s
        self.cards = {slot: _make_card(slot) for slot in SLOTS}


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        lines = cast("BinaryIO", self.rfile)
        self._write(GREETING)
        while line := lines.readline():
            came = time.perf_counter()
            verb, *words = line.decode("ascii").split()
            answer = self._answer(verb, words)
            if verb in ("apdu", "tpdu"):
                left_s = came + self._array.delay_s - time.perf_counter()
                time.sleep(max(0.0, left_s))
            self._write(answer)

    @property
    def _array(self) -> _Array:
        return cast("_Array", self.server)

    def _answer(self, verb: str, words: list[str]) -> str:
        card = self._array.cards.get(int(words[0])) if words else None
        if verb in ("RESET", "QUIT", "FREE"):
            return DONE
        if verb == "CONTENT":
            return encode_content((SimBoard(SLOTS[0], (True,) * len(SLOTS)),))
        if verb == "USE" and card is not None:
            return encode_reply(SimReply(is_ok=True, payload=card.power_on()))
        if verb in ("apdu", "tpdu") and card is not None:
            command = bytes.fromhex(words[-1])
            answer = drain_raw(card.process, command) if verb == "apdu" else card.process(command)
            return encode_reply(SimReply(is_ok=True, payload=answer))
        return encode_reply(REFUSED)

    def _write(self, line: str) -> None:
        cast("socket.socket", self.connection).sendall(line.encode("ascii") + b"\n")


def main() -> None:
    """Serve until the standard input ends."""
    with _Array(float(sys.argv[1]) / _MS_PER_S) as array:
        threading.Thread(target=array.serve_forever, daemon=True).start()
        sys.stdout.write(f"{array.server_address[1]}\n")
        sys.stdout.flush()
        sys.stdin.read()
        array.shutdown()


if __name__ == "__main__":
    main()
