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
from iose.runtime.compose import make_element
from iose.servers.element_host import ElementHostServer, HostedElement, open_listener
from tests.support.element import demo
from tests.support.memory_store import MemoryStore
from tests.support.shared import REPOSITORY


class MemoryRack:
    """Two elements with the published PSK: key1.com takes any record, key2.com those of a chip."""

    def __init__(self) -> None:
        self._elements = {"1": make_element(MemoryStore(), demo(name=b"key1.com"))}
        self._elements["2"] = make_element(MemoryStore(), demo(name=b"key2.com"))

    def list_elements(self) -> Sequence[ElementInfo]:
        return [
            ElementInfo("1", "key1.com", b"", 16_645, 0),
            ElementInfo("2", "key2.com", b"", 240, 512),
        ]

    def open(self, seid: str) -> HostedElement | None:
        return self._elements.get(seid)

    def release(self, seid: str) -> None:
        pass


class HostProcess:
    """One host on a socket path, which can be killed and started again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; it is there when the path takes connections."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.host_process", str(self.path)], cwd=REPOSITORY
        )

    def kill(self) -> None:
        """Kill the process without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


async def serve(path: Path) -> None:
    """Serve until killed."""
    await ElementHostServer(MemoryRack()).start(open_listener(path))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
