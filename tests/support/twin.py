# SPDX-License-Identifier: Apache-2.0
"""Starts a twin of ``tests.twins`` as a program of its own, and tells it what goes wrong."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.shared import REPOSITORY

STOP_S = 5.0


class Twin:
    """A running twin.

    Attributes:
        ready: What it said when it was ready.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.ready = self._hear()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.ready["address"].rpartition(":")
        return host, int(port)

    @property
    def device(self) -> str:
        """Its device file."""
        return str(self.ready["device"])

    def fault(self, kind: str | None, count: int | None = None, **more: object) -> dict[str, Any]:
        """Make something go wrong, for the next ``count`` answers or until the fault is None."""
        return self.order(fault=kind, count=count, **more)

    def order(self, **what: object) -> dict[str, Any]:
        """Tell it anything else it knows, and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        answer = self._hear()
        assert answer.get("ok"), answer
        return answer

    def stop(self) -> None:
        """End it, as the end of the block does; killed when it does not."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it without warning."""
        self._process.kill()
        self._process.wait()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the twin ended with status {self._process.wait()}"
        heard: dict[str, Any] = json.loads(line)
        return heard


@contextmanager
def twin(name: str, *options: str) -> Iterator[Twin]:
    """Give ``tests/twins/NAME.py`` while it runs; nothing of it outlives the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.twins.{name}", *options],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    running: Twin | None = None
    try:
        running = Twin(process)
        yield running
        running.stop()
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
