# SPDX-License-Identifier: Apache-2.0
"""The programs measured, each in processes of its own: a node of elements, and the reference."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from iose.runtime.bench.openssl_client import CCM_SUITE, P256, PeerProgramError
from iose.runtime.control import connect_control
from iose.runtime.errors import ControlError
from iose.runtime.folder import DataFolder
from iose.runtime.racs_settings import OPERATOR_RULE

REFERENCE_KEY = bytes(range(1, 33))
IDENTITY = b"Client_identity"
LOOPBACK = "127.0.0.1"

_STOP_S = 20
_POLL_S = 0.01
_LOG_SHOWN = 2000
_READER_CONFIG = """
data = {data}
elements = 0
[front]
listen = ["127.0.0.1:0"]
[racs]
listen = ["127.0.0.1:0"]
rules = [{rule}]
[log]
file = {log}
[[readers]]
type = "sim-array"
address = "{reader}"
slots = [{slot}]
"""
_COMMAND_LINE = "from iose.cli.main import main; main()"


@dataclass(frozen=True, slots=True)
class Element:
    """What a client needs to call one element."""

    seid: str
    name: str
    identity: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Node:
    """A running node.

    Attributes:
        process: The supervisor; the other processes are its descendants.
        address: Where the front listens.
        racs: Where the administration plane listens; None without one.
        pki: Folder with the operator's certificate; None without an administration plane.
        elements: All its elements, in the node's order.
        ready_s: Time from start to the line that says everything listens, in seconds.
    """

    process: "subprocess.Popen[str]"
    address: tuple[str, int]
    racs: tuple[str, int] | None
    pki: Path | None
    elements: tuple[Element, ...]
    ready_s: float

    def memory_bytes(self) -> int:
        """Return the proportional set size of all its processes."""
        return sum(map(_proportional_set_size, [self.process.pid, *_descendants(self.process.pid)]))


@contextlib.contextmanager
def running_node(folder: Path, elements: int) -> Iterator[Node]:
    """Start ``iose up`` on a data folder, and stop it at the end.

    Raises:
        PeerProgramError: The node did not come up.
    """
    command = [sys.executable, "-c", _COMMAND_LINE, "up", "--json", "--data", str(folder)]
    command += ["--elements", str(elements), "--front", f"{LOOPBACK}:0"]
    command += ["--racs", f"{LOOPBACK}:0"]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:  # a pipe nobody reads would fill up
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            ready_s = time.perf_counter() - started
            if not line:
                process.wait(_STOP_S)
                log.seek(0)
                raise PeerProgramError(f"the node did not come up: {log.read().strip()}")
            yield _node(process, json.loads(line), ready_s)
        finally:
            _stop(process)


@contextlib.contextmanager
def slow_reader(milliseconds: float) -> Iterator[tuple[str, int]]:
    """Start a reader that takes so long for each APDU; yield its address.

    Raises:
        PeerProgramError: It did not come up.
    """
    command = [sys.executable, "-m", "iose.runtime.bench.slow_reader", str(milliseconds)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise PeerProgramError("the slow reader did not come up")
        yield LOOPBACK, int(line)
    finally:
        _stop(process)


@contextlib.contextmanager
def node_with_reader(folder: Path, reader: tuple[str, int], slot: int) -> Iterator[Node]:
    """Run a node with one slot of a SIM array and no element of its own, until the end.

    Raises:
        PeerProgramError: The node did not come up, or its element is not to be had.
    """
    folder.mkdir()
    log, data = folder / "log", folder / "data"
    config = folder / "node.toml"
    rule = ", ".join(f"{name} = {json.dumps(value)}" for name, value in OPERATOR_RULE.items())
    settings = {"data": json.dumps(str(data)), "log": json.dumps(str(log)), "rule": f"{{{rule}}}"}
    config.write_text(
        _READER_CONFIG.format(**settings, reader=f"{reader[0]}:{reader[1]}", slot=slot)
    )
    command = [sys.executable, "-c", _COMMAND_LINE, "node", "run", "--config", str(config)]
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ready = _wait_for_element(process, data, log)
        yield Node(
            process,
            _address(ready["front"][0]),
            _address(ready["racs"][0]),
            data / "pki",
            (),
            time.perf_counter() - started,
        )
    finally:
        _stop(process)


def _wait_for_element(
    process: "subprocess.Popen[str]", data: Path, log: Path
) -> dict[str, list[str]]:
    """Return where a node listens, once the element behind its reader is served.

    Raises:
        PeerProgramError: It is not, for too long.
    """
    deadline = time.monotonic() + _STOP_S
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        with contextlib.suppress(ControlError):
            document = asyncio.run(_ask(data, "reader.list"))
            if all(one["state"] == "ready" and one["sen"] for one in document["readers"]):
                return asyncio.run(_ask(data, "status"))
    text = log.read_text(errors="replace") if log.exists() else ""
    raise PeerProgramError(f"the node with a reader did not come up: {text[-_LOG_SHOWN:].strip()}")


async def _ask(data: Path, op: str) -> dict[str, Any]:
    async with connect_control(DataFolder(data)) as channel:
        return dict(await channel.request(op, timeout_s=_STOP_S))


def _node(process: "subprocess.Popen[str]", ready: dict[str, object], ready_s: float) -> Node:
    listed = ready["elements"]
    elements = tuple(
        Element(
            seid=entry["seid"],
            name=entry["sen"],
            identity=entry["psk_identity"].encode(),
            key=bytes.fromhex(urlsplit(entry["uri"]).password or ""),
        )
        for entry in (listed if isinstance(listed, list) else [])
    )
    front, racs, pki = ready["front"], ready.get("racs"), ready.get("pki")
    return Node(
        process,
        _address(front),
        _address(racs) if racs else None,
        Path(str(pki)) if pki else None,
        elements,
        ready_s,
    )


def _address(text: object) -> tuple[str, int]:
    host, _, port = str(text).rpartition(":")
    return host, int(port)


@contextlib.contextmanager
def reference_server() -> Iterator[tuple[str, int]]:
    """Start ``openssl s_server`` with the elements' suite, group and mode; yield its address.

    ``-rev`` makes it answer each line, reversed: the shortest application it has.

    Raises:
        PeerProgramError: The program is missing, or does not listen.
    """
    address = (LOOPBACK, _free_port())
    command = ["openssl", "s_server", "-quiet", "-rev", "-nocert", "-tls1_3", "-num_tickets", "0"]
    command += ["-ciphersuites", CCM_SUITE.decode(), "-groups", P256.decode()]
    command += ["-psk", REFERENCE_KEY.hex(), "-psk_identity", IDENTITY.decode()]
    command += ["-accept", f"{address[0]}:{address[1]}"]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # at the end of its input it would spin
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except FileNotFoundError as error:
        raise PeerProgramError(
            "the program openssl is missing", hint="install the package openssl"
        ) from error
    try:
        _wait_until_it_listens(process, address)
        yield address
    finally:
        _stop(process)


def _wait_until_it_listens(process: "subprocess.Popen[str]", address: tuple[str, int]) -> None:
    deadline = time.monotonic() + _STOP_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(address, timeout=_STOP_S).close()
            return
        time.sleep(_POLL_S)
    raise PeerProgramError("openssl s_server does not listen")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _stop(process: "subprocess.Popen[str]") -> None:
    """Ask the program to stop, then make it; its pipes are closed."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _descendants(pid: int) -> list[int]:
    """Return the processes started by a process, and by those, from /proc."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            found += [child, *_descendants(child)]
    return found


def _proportional_set_size(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "Pss":
            return int(rest.split()[0]) * 1024
    raise PeerProgramError(f"no memory figures of process {pid}")


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0))
