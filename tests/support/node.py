# SPDX-License-Identifier: Apache-2.0
"""A node run from a configuration file, its log in another, for tests that believe what they see.

``running_node`` of the module beside is ``iose up``; this one also tells what was logged.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.support.running_node import PROGRAM

T = TypeVar("T")

PATIENCE_S = 15.0  # a test that waits longer has failed
POLL_S = 0.005
STOP_S = 20.0
ELEMENT_HOST = "element host"


def until(condition: Callable[[], T], what: str = "", patience_s: float = PATIENCE_S) -> T:
    """Return the first true value of a condition; fail when it does not come."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what or condition}"
        time.sleep(POLL_S)
    return value


@dataclass(frozen=True)
class NodeElement:
    """How to reach one element."""

    seid: str
    sen: str
    psk: bytes
    identity: str


class LoggedNode:
    """A node started by ``iose node run``.

    Attributes:
        folder: Its data folder.
        process: The supervisor.
        address: Where the front listens.
        elements: Its elements, by name.
    """

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.folder = folder
        self.process = process
        self.address = ("", 0)
        self.elements: dict[str, NodeElement] = {}
        self._log = log

    def __getitem__(self, sen: str) -> NodeElement:
        return self.elements[sen]

    @property
    def front(self) -> str:
        """Where the front listens, as ``host:port``."""
        return "{}:{}".format(*self.address)

    @property
    def racs(self) -> str:
        """Where the administration plane listens, as ``host:port``."""
        return self.ask("status")["racs"][0]

    @property
    def pki(self) -> Path:
        """Folder of the operator's certificate."""
        return self.folder / "pki"

    def configure(self, elements: int = 3, **tables: Mapping[str, Any]) -> None:
        """Write the configuration anew, as ``configured_node`` takes it; nothing is reloaded."""
        file = self.folder.parent / "node.toml"
        file.write_text(_toml(self.folder, self._log, elements, tables))

    def uri(self, sen: str) -> str:
        """Return the URI of an element, with its key."""
        return f"keyS://{sen}:{self.elements[sen].psk.hex()}@{self.front}/"

    def ask(self, op: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Return the answer of the control socket to one request, which must not be an error."""
        answer = self.request(op, arguments)
        assert "result" in answer, answer
        return answer["result"]

    def request(self, op: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Return the answer of the control socket to one request, error or not."""
        with socket.socket(socket.AF_UNIX) as connection, _socket_folder(self.folder) as folder:
            connection.settimeout(PATIENCE_S)
            connection.connect(f"{folder}/control.sock")
            request = {"id": 1, "op": op, "arguments": dict(arguments or {})}
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answers:
                return json.loads(answers.readline())

    def pids(self, name: str) -> list[int]:
        """Return the processes that run now and whose name begins so."""
        processes = self.ask("status")["processes"]
        return [one["pid"] for one in processes if one["pid"] and one["name"].startswith(name)]

    def element_status(self, sen: str) -> Any:
        """Return what the node says of an element."""
        return next(one for one in self.ask("status")["elements"] if one["sen"] == sen)

    def refresh_elements(self) -> None:
        """Learn names and keys anew, of the elements that have them."""
        for told in self.ask("element.list")["elements"]:
            seid, sen = told["seid"], told["sen"]
            answer = self.request("element.secrets", {"element": seid, "again": True})
            if "result" in answer:
                secrets = answer["result"]["secrets"]
                psk = bytes.fromhex(secrets["psk"])
                self.elements[sen] = NodeElement(seid, sen, psk, secrets["psk_identity"])

    # --- the log -----------------------------------------------------------------------------

    def log_mark(self) -> int:
        """Return where the log ends now."""
        return self._log.stat().st_size

    def log_text(self, since: int = 0) -> str:
        """Return the log from a mark on."""
        return self._log.read_bytes()[since:].decode(errors="replace")

    def logged(self, event: str, since: int = 0, **expected: object) -> list[dict[str, Any]]:
        """Return the log's lines of one event that hold the given values."""
        found = []
        for text in self.log_text(since).splitlines(keepends=True):
            if not (text.startswith("{") and text.endswith("\n")):
                continue
            line = json.loads(text)
            if line.get("event") == event and expected.items() <= line.items():
                found.append(line)
        return found

    def wait_logged(self, event: str, since: int = 0, **expected: object) -> dict[str, Any]:
        """Return the first such line, when it is there."""
        lines = until(lambda: self.logged(event, since, **expected), f"{event} {expected}")
        return lines[0]


def read_access(told: Mapping[str, str]) -> NodeElement:
    """Return how to reach an element, from what a node tells its owner."""
    psk = bytes.fromhex(told["uri"].split(":")[2].partition("@")[0])
    return NodeElement(told["seid"], told["sen"], psk, told["psk_identity"])


@contextmanager
def configured_node(
    folder: Path, elements: int = 3, **tables: Mapping[str, Any]
) -> Iterator[LoggedNode]:
    """Run ``iose node run`` on a free port, its log in ``node.log`` beside the data.

    Args:
        folder: Home of data, configuration and log.
        elements: How many there are.
        tables: Tables of the configuration; ``node`` holds what stands outside of all tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = Path(tables.get("log", {}).get("file") or folder / "node.log")
    log.touch()
    file = folder / "node.toml"
    file.write_text(_toml(folder / "data", log, elements, tables))
    mark = log.stat().st_size
    process = subprocess.Popen(
        [*PROGRAM, "node", "run", "--config", str(file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    node = LoggedNode(folder / "data", process, log)
    try:
        until(lambda: process.poll() is not None or node.logged("node.ready", mark), "node.ready")
        assert process.poll() is None, _last_words(process) + node.log_text(mark)
        host, _, port = node.logged("node.ready", mark)[0]["front"][0].rpartition(":")
        node.address = (host, int(port))
        until((folder / "data" / "control.sock").exists, "the control socket")
        node.refresh_elements()
        yield node
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> int:
    """Stop a program of ours in order, and return its exit status; it must not need force."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=STOP_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode


def _toml(data: Path, log: Path, elements: int, tables: Mapping[str, Mapping[str, object]]) -> str:
    given = {name: dict(table) for name, table in tables.items()}
    top = {"data": str(data), "elements": elements, **given.pop("node", {})}
    front = {"listen": ["127.0.0.1:0"], **given.pop("front", {})}
    logs = {"level": "info", "format": "json", "file": str(log), **given.pop("log", {})}
    lines = [f"{name} = {_toml_value(value)}" for name, value in top.items()]
    for name, table in {"front": front, "log": logs, **given}.items():
        lines.append(f"[{name}]")
        lines += [f"{json.dumps(key)} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    """Return a value in one line; tables inside of it stand in braces."""
    if isinstance(value, Mapping):
        items = (f"{json.dumps(key)} = {_toml_value(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value)


def _last_words(process: "subprocess.Popen[bytes]") -> str:
    return process.communicate(timeout=STOP_S)[1].decode()


@contextmanager
def _socket_folder(folder: Path) -> Iterator[str]:
    """Give a name of a folder that is short enough for its sockets, however deep it is."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
