# SPDX-License-Identifier: Apache-2.0
"""One powered card under administration: its secure channel, and plans carried out through it.

A plan stops at its first refusal and takes back what it began; a lost card leaves things as they
are, and the same request made again finds out what is left to do.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from iose.client.card.channel import CardChannel, Tools, open_channel
from iose.client.card.discovery import find_issuer_domain, is_selected, select
from iose.client.card.errors import CardManagementError
from iose.client.card.information import announced_variant, read_identity
from iose.client.card.inventory import CardInventory, read_inventory
from iose.client.card.key_files import CardKeys
from iose.client.card.plan import KeyChange, Plan, Step
from iose.globalplatform.channel import SecureChannelError
from iose.globalplatform.commands import Ins
from iose.globalplatform.put_key import PutKey
from iose.iso7816.aid import Aid
from iose.iso7816.status import StatusWord
from iose.transport.base import Connection
from iose.transport.errors import TransportError
from iose.wire.errors import IoseError

Progress = Callable[[int, str], None]
"""Told of commands done so far and of the step at work."""

AGAIN: Final = "run the same command again: it finds out what was done, and does the rest"
TAKEN_BACK: Final = "what this run had begun was taken back"
LEFT: Final = "not all that this run had begun could be taken back: 'iose card list' shows what is"
NOT_THERE: Final = frozenset({StatusWord.REFERENCED_DATA_NOT_FOUND, StatusWord.NOT_FOUND})


class CardManager:
    """A card whose issuer security domain is open for administration.

    Attributes:
        issuer_domain: AID of the domain.
        identity: What tells the card from others.
    """

    def __init__(
        self,
        connection: Connection,
        tools: Tools,
        issuer_domain: Aid,
        identity: bytes,
        *,
        is_named: bool,
    ) -> None:
        self.issuer_domain = issuer_domain
        self._is_named = is_named
        self._connection = connection
        self._tools = tools
        self.identity = identity
        self._channel: CardChannel | None = None

    @classmethod
    async def open(
        cls,
        connection: Connection,
        candidates: Sequence[CardKeys],
        tools: Tools,
        *,
        name: str,
        issuer_domain: Aid | None = None,
    ) -> "CardManager":
        """Return the card with a secure channel to its issuer security domain.

        Args:
            connection: A powered card; the caller closes it.
            candidates: Keys that may fit, the likelier first.
            tools: What is needed of this host.
            name: What tells the card from others, when it does not say so itself.
            issuer_domain: Its AID, if it is known; else it is looked for.

        Raises:
            CardManagementError: There is no such domain, or the keys cannot be its keys.
            SecureChannelError: The card refuses, or its keys are others.
            TransportError: No answer.
        """
        aid = await select_issuer_domain(connection, issuer_domain)
        identity = await read_identity(connection, name)
        manager = cls(connection, tools, aid, identity, is_named=issuer_domain is not None)
        await manager._open_channel(candidates)
        return manager

    @property
    def channel(self) -> CardChannel:
        """The secure channel.

        Raises:
            CardManagementError: It was closed by a failure.
        """
        if self._channel is None:
            raise CardManagementError("the secure channel is closed", hint=AGAIN)
        return self._channel

    async def inventory(self) -> CardInventory:
        """Return what is on the card (GPCS 2.3.1 §11.4).

        Raises:
            StatusWordError: The card refused.
            DecodeError: It answered something else.
            TransportError: No answer.
        """
        return await read_inventory(self.channel, self.issuer_domain, is_named=self._is_named)

    async def apply(self, plan: Plan, progress: Progress | None = None) -> None:
        """Carry a plan out.

        Raises:
            StatusWordError: The card refused a step; what the plan had begun was taken back.
            TransportError: The card was lost; its hint says how to go on.
            SecureChannelError: An answer was not the card's.
            IoseError: Something on this side failed; what the plan had begun was taken back.
        """
        progress = progress or _no_progress
        done = 0
        begun: list[Step] = []
        for step in plan.steps:
            progress(done, step.words)
            try:
                await self._carry_out(step, begun, partial(_tell, progress, done, step.words))
            except TransportError as error:
                error.hint = AGAIN
                raise
            except SecureChannelError:
                raise
            except IoseError as error:
                if any(step.undo or step.retract for step in begun):
                    is_as_before = await self._take_back(begun)
                    error.hint = (error.hint or TAKEN_BACK) if is_as_before else LEFT
                raise
            done += step.apdus
        progress(done, "")

    async def _carry_out(self, step: Step, begun: list[Step], sent: Callable[[int], None]) -> None:
        if step.action is not None:
            step.action()
            begun.append(step)
        for number, command in enumerate(step.commands, start=1):
            response = await self.channel.require(command, step.words, step.accepted)
            sent(number)
            if step not in begun:  # what the card refused from the start may be somebody else's
                begun.append(step)
            if not response.status.is_success:
                break  # the step was done before; what is left of it would go elsewhere
        if step.change is not None:
            await self._change_keys(step.words, step.change)

    async def _change_keys(self, words: str, change: KeyChange) -> None:
        channel = self.channel
        keys = channel.derive(change.keys)
        command = PutKey.for_keys(
            self._tools.crypto, keys, channel.encrypt_key, replaces=change.replaces
        ).to_command()
        await channel.require(command, words)
        self._channel = None
        await select(self._connection, self.issuer_domain.value)
        await self._open_channel([change.keys])

    async def _take_back(self, begun: Sequence[Step]) -> bool:
        """Return whether the card is as it was before."""
        commands = [command for step in reversed(begun) for command in step.undo]
        done = 0
        for command in commands:
            accepted = NOT_THERE if command.ins == Ins.DELETE else frozenset[int]()
            with suppress(IoseError):  # the refusal that came first is what is told
                await self.channel.require(command, "cleaning up", accepted)
                done += 1
        if done < len(commands):
            return False
        for step in begun:
            if step.retract is not None:
                step.retract()
        return True

    async def _open_channel(self, candidates: Sequence[CardKeys]) -> None:
        announced = await announced_variant(self._connection)
        self._channel = await open_channel(
            self._connection, candidates, self._tools, self.identity, announced=announced
        )


def _no_progress(_done: int, _words: str) -> None:
    pass


def _tell(progress: Progress, done: int, words: str, sent: int) -> None:
    progress(done + sent, words)


async def select_issuer_domain(connection: Connection, aid: Aid | None = None) -> Aid:
    """Return the AID of the issuer security domain, selected.

    Args:
        connection: A powered card.
        aid: The domain, if it is known; else it is looked for.

    Raises:
        CardManagementError: There is none.
        TransportError: No answer.
    """
    if aid is None:
        return await find_issuer_domain(connection)
    response = await select(connection, aid.value)
    if not is_selected(response):
        raise CardManagementError(f"the card has no security domain {aid} ({response.status})")
    return aid
