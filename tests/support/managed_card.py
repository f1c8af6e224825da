# SPDX-License-Identifier: Apache-2.0
"""Software cards under administration: a reader to hand to commands, which can lose its card.

A cut test runs a request once to count its commands, then once per command with ``cut`` set, then
again without, and looks at what the card holds in the end.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from iose.applets.security_domain import DEFAULT_VARIANT
from iose.client.card.channel import Tools
from iose.client.card.failed_keys import FailedKeys
from iose.client.card.key_files import PUBLISHED_KEYS, CardKeys
from iose.client.card.manager import CardManager
from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.channel import ScpVariant
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.runtime.compose import TlsSeMaker, make_element
from iose.transport.base import ApduLimits, BatchStep
from iose.transport.errors import CardRemovedError
from iose.transport.software import SoftwareConnection, SoftwareReader
from tests.support.element import demo
from tests.support.memory_store import MemoryStore
from tests.support.rng import SeededRng

CRYPTO = PycaCrypto()
SEID = "se-00000001"


class Cut:
    """When a card is lost.

    Attributes:
        after: Commands that go through before it is; None never loses it.
        is_executed: Whether the command that gets no answer is carried out.
        commands: Commands sent so far, over all connections.
    """

    def __init__(self, after: int | None = None, *, is_executed: bool = False) -> None:
        self.after = after
        self.is_executed = is_executed
        self.commands = 0


class CutConnection:
    """A connection that dies where it is told to; ``sent`` are the commands the card had."""

    def __init__(self, inner: SoftwareConnection, cut: Cut, sent: list[CommandApdu]) -> None:
        self._inner = inner
        self._cut = cut
        self._sent = sent
        self._is_lost = False

    @property
    def atr(self) -> bytes:
        return self._inner.atr

    @property
    def apdus(self) -> int:
        return self._inner.apdus

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        return (await self.transmit_batch([BatchStep(command, None)]))[0]

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        responses = []
        for step in steps:
            responses += await self._one(step)
        return responses

    async def reset(self) -> bytes:
        return await self._inner.reset()

    async def close(self) -> None:
        await self._inner.close()

    async def _one(self, step: BatchStep) -> list[ResponseApdu]:
        is_now = self._cut.after is not None and self._cut.commands >= self._cut.after
        if self._is_lost or (is_now and not self._cut.is_executed):
            self._is_lost = True
            raise CardRemovedError("card", "the session is over")
        self._cut.commands += 1
        self._sent.append(step.command)
        responses = await self._inner.transmit_batch([step])
        if is_now:
            self._is_lost = True
            raise CardRemovedError("card", "the session is over")
        return responses


class ManagedCard:
    """One software card and the reader it is in.

    Attributes:
        store: Its memory.
        cut: When it is lost.
        sent: Commands that reached it.
    """

    def __init__(self, variant: ScpVariant = DEFAULT_VARIANT, **given: object) -> None:
        self.store = MemoryStore()
        self.cut = Cut()
        self.sent: list[CommandApdu] = []
        self.seid = SEID
        personalisation = demo(name=b"key1.com", **given)
        self.card = make_element(self.store, personalisation, SeededRng(), variant)
        self._reader = SoftwareReader("card", self.card)

    @property
    def name(self) -> str:
        return "card"

    @property
    def limits(self) -> ApduLimits:
        return self._reader.limits

    async def connect(self) -> CutConnection:
        return CutConnection(await self._reader.connect(), self.cut, self.sent)

    @property
    def secrets(self) -> Mapping[str, object]:
        """What the owner of the card may know."""
        return TlsSeMaker().read_secrets(self.store.contents)


def tools(folder: Path, **options: bool) -> Tools:
    """Return what card management needs of a host, random bytes repeatable."""
    return Tools(CRYPTO, SeededRng(b"host"), FailedKeys(CRYPTO, folder), **options)


def managed(reader: ManagedCard, folder: Path, work, *keys: CardKeys, **options: bool):
    """Return what ``work`` returns for the opened card."""

    async def run():
        connection = await reader.connect()
        try:
            candidates = keys or (PUBLISHED_KEYS,)
            manager = await CardManager.open(
                connection, candidates, tools(folder, **options), name=reader.name
            )
            return await work(manager)
        finally:
            await connection.close()

    return asyncio.run(run())
