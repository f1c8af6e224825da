# SPDX-License-Identifier: Apache-2.0
"""A whole node in its own processes, started as a user starts it, for tests from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_DEADLINE_S = 15.0
STOP_DEADLINE_S = 10.0
POLL_S = 0.02
FREE_PORTS = ("--front", "127.0.0.1:0", "--racs", "127.0.0.1:0")
PROGRAM = (sys.executable, "-c", "from iose.cli.main import main; main()")


@dataclass
class RunningNode:
    """One ``iose up --json`` and what it announced."""

    process: subprocess.Popen[str]
    data: Path
    ready: dict[str, Any]

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.ready["front"].rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def racs(self) -> tuple[str, int]:
        """Where the administration plane listens."""
        host, _, port = self.ready["racs"].rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def pki(self) -> Path:
        """Folder of the operator's certificate."""
        return Path(self.ready["pki"])

    def psk(self, index: int = 0) -> str:
        return self.ready["elements"][index]["uri"].split(":")[2].partition("@")[0]

    def status(self) -> dict[str, Any]:
        return json.loads(iose("node", "status", "--json", "--data", str(self.data)).stdout)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_DEADLINE_S)


def iose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command and return what it printed."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=START_DEADLINE_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def running_node(data: Path, *options: str) -> Iterator[RunningNode]:
    """Give a node on free ports; it is stopped, or killed if need be, when the block ends."""
    command = [*PROGRAM, "up", "--json", "--data", str(data), *FREE_PORTS, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"iose up ended with status {process.wait(STOP_DEADLINE_S)}"
            yield RunningNode(process, data, json.loads(line))
            if process.poll() is None:
                process.terminate()
                process.wait(STOP_DEADLINE_S)
        finally:
            process.kill()


def until(condition: Callable[[], object], deadline_s: float = STOP_DEADLINE_S) -> None:
    """Poll until a condition holds; fail when it does not in time."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(POLL_S)


def is_alive(pid: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
