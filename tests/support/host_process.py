# SPDX-License-Identifier: Apache-2.0
"""An element host in a process of its own, with real elements that nothing outlives.

``python -m tests.support.host_process PATH`` is the process; ``HostProcess`` starts and kills it.
"""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from iose.protocols.host_frames import ElementInfo
from iose.runtime.compose import TlsSeMaker, make_element
from iose.runtime.control import listen_unix
from iose.runtime.elements.rack import OpenElement
from iose.servers.element_host import ElementHostServer, HostedElement
from tests.support.element import demo
from tests.support.memory_store import MemoryStore
from tests.support.shared import REPOSITORY


class MemoryRack:
    """Elements with the published PSK.

    key1.com takes any record, key2.com those of a chip; the medium of key3.com is full.
    """

    def __init__(self) -> None:
        stores = {seid: MemoryStore() for seid in ("1", "2", "3")}
        self._elements: dict[str, HostedElement] = {}
        for seid, store in stores.items():
            make_element(store, demo(name=f"key{seid}.com".encode()))
            self._elements[seid] = OpenElement(seid, store, TlsSeMaker(), lambda _: None).card
        stores["3"].full = True

    def list_elements(self) -> Sequence[ElementInfo]:
        return [
            ElementInfo("1", "key1.com", b"", 16_645, 0),
            ElementInfo("2", "key2.com", b"", 240, 512),
            ElementInfo("3", "key3.com", b"", 16_645, 0),
        ]

    def open(self, seid: str) -> HostedElement | None:
        return self._elements.get(seid)

    def release(self, seid: str) -> None:
        pass


class HostProcess:
    """One host on a socket path, which can be killed and started again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; it is there when the path takes connections."""
        command = [sys.executable, "-m", "tests.support.host_process", str(self.path)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log)

    def kill(self) -> None:
        """Kill the process without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


async def serve(path: Path) -> None:
    """Serve until killed."""
    await ElementHostServer(MemoryRack()).start(listen_unix(path))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
