# SPDX-License-Identifier: Apache-2.0
"""Scripts of RACS requests: BEGIN … END blocks, as the published console runs them (racs.md §4).

Pure: lines in, requests out, one after the other, so that a script may come through a pipe.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from iose.protocols.racs.response import RacsRequest
from iose.wire.errors import DecodeError, LocalProtocolError

COMMENT: Final = "//"
SCRIPT_HINT: Final = "a script is made of blocks: BEGIN, one command per line, END"
NAME_AND_BEGIN: Final = 2  # words of a BEGIN line whose name counts (racs.md §3)


def read_script(lines: Iterable[str]) -> Iterator[RacsRequest]:
    """Yield the requests of a script; empty lines and lines that begin with // are skipped.

    Raises:
        DecodeError: A line stands outside a block, a block is not ended, or a line cannot be sent;
            the message names the line. The requests before it have been yielded.
    """
    begun: int | None = None
    name = ""
    commands: list[str] = []
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        words = line.split()
        if not words or line.startswith(COMMENT):
            continue
        if words[0] == "BEGIN":
            if begun is not None:
                raise DecodeError(
                    f"line {number}: BEGIN inside the block of line {begun}", hint=SCRIPT_HINT
                )
            begun, name, commands = number, words[1] if len(words) == NAME_AND_BEGIN else "", []
        elif begun is None:
            raise DecodeError(f"line {number}: expected BEGIN", hint=SCRIPT_HINT)
        elif words[0] == "END":
            yield _request(begun, commands, name)
            begun = None
        else:
            commands.append(line)
    if begun is not None:
        raise DecodeError(f"line {begun}: this block has no END", hint=SCRIPT_HINT)


def _request(begun: int, commands: list[str], name: str) -> RacsRequest:
    try:
        return RacsRequest(tuple(commands), name)
    except LocalProtocolError as error:
        raise DecodeError(f"the block of line {begun}: {error}") from None
