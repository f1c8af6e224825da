# SPDX-License-Identifier: Apache-2.0
"""Cards of other makers as far as a test needs them: answers by command, in the clear."""

from collections.abc import Callable, Mapping, Sequence

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.transport.base import BatchStep

Answers = Mapping[str, str] | Callable[[CommandApdu], str]


class ScriptedCard:
    """``Connection`` and open channel at once; what it has no answer for is 6A88.

    Attributes:
        sent: The commands, in hex digits.
    """

    def __init__(self, answers: Answers) -> None:
        self.sent: list[str] = []
        self._answers = answers

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        return [await self.exchange(step.command) for step in steps]

    async def exchange(self, command: CommandApdu) -> ResponseApdu:
        wire = command.encode().hex().upper()
        self.sent.append(wire)
        if callable(self._answers):
            return ResponseApdu.decode(bytes.fromhex(self._answers(command)))
        answer = next((self._answers[key] for key in self._answers if wire.startswith(key)), None)
        if answer is None:
            return ResponseApdu(status=StatusWord.REFERENCED_DATA_NOT_FOUND)
        return ResponseApdu.decode(bytes.fromhex(answer))
