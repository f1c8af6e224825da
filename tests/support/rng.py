# SPDX-License-Identifier: Apache-2.0
"""Sources of random bytes for tests: one that repeats a script, one that counts from a seed."""

import hashlib


class ScriptedRng:
    """Gives the byte strings of a script, one per call, and objects to any other size."""

    def __init__(self, *script: bytes) -> None:
        self._script = list(script)

    def random_bytes(self, count: int) -> bytes:
        """Return the next entry of the script."""
        assert self._script, f"{count} random bytes were asked for after the end of the script"
        value = self._script.pop(0)
        assert len(value) == count, f"{count} random bytes asked for, {len(value)} scripted"
        return value

    @property
    def is_finished(self) -> bool:
        """Whether the whole script was used."""
        return not self._script


class SeededRng:
    """An endless reproducible stream."""

    def __init__(self, seed: bytes = b"seed") -> None:
        self._seed = seed
        self._counter = 0

    def random_bytes(self, count: int) -> bytes:
        """Return the next bytes of the stream."""
        output = b""
        while len(output) < count:
            self._counter += 1
            block = self._seed + self._counter.to_bytes(8, "big")
            output += hashlib.sha256(block).digest()
        return output[:count]
