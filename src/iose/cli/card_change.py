# SPDX-License-Identifier: Apache-2.0
"""A change of a card at the command line: planned, shown, asked about, carried out."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TextIO, TypeVar

import typer

from iose.cli.card_options import CardOptions
from iose.cli.card_view import ProgressLine, plan_document, print_plan
from iose.cli.output import print_json
from iose.client.card.errors import CardManagementError
from iose.client.card.key_files import CardKeys
from iose.client.card.manager import AGAIN, CardManager
from iose.client.card.plan import Plan
from iose.runtime.errors import ConfigurationError
from iose.transport.base import Connection, Reader

Found = TypeVar("Found")
Planner = Callable[[CardManager], Awaitable[Plan]]


@dataclass(frozen=True, slots=True)
class CardChange:
    """A change of one card, from plan to done."""

    options: CardOptions
    reader: Reader
    candidates: Sequence[CardKeys]
    planner: Planner

    def run(self, *, is_yes: bool, is_dry: bool, as_json: bool) -> None:
        """Show the plan, ask unless told not to, carry it out.

        The card is let go while a person thinks; what is then found on it must be the same.

        Raises:
            CardManagementError: The card was changed meanwhile, or the user stopped it.
            ConfigurationError: There is no terminal to ask on.
            IoseError: It could not be done.
        """
        text = sys.stderr if as_json else sys.stdout
        plan: Plan | None = None
        shown: _Shown | None = None
        is_applied = False
        if is_dry or not is_yes:
            shown = with_connection(self.reader, self._plan)
            plan = shown.plan
            print_plan(plan, text)
            if not is_dry and plan.steps:
                _ask()
        if not is_dry and (plan is None or plan.steps):
            try:
                plan = with_connection(self.reader, lambda one: self._apply(one, shown, text))
            except KeyboardInterrupt:
                raise CardManagementError("stopped before it was done", hint=AGAIN) from None
            is_applied = bool(plan.steps)
        if as_json and plan is not None:
            print_json({"plan": plan_document(plan), "applied": is_applied})
        elif is_applied:
            print("done")

    async def _plan(self, connection: Connection) -> "_Shown":
        manager = await self._manager(connection)
        return _Shown(await self.planner(manager), manager.identity)

    async def _apply(self, connection: Connection, shown: "_Shown | None", text: TextIO) -> Plan:
        manager = await self._manager(connection)
        plan = await self.planner(manager)
        if shown is None:
            print_plan(plan, text)
        elif manager.identity != shown.card:
            raise CardManagementError("this is another card than the plan was made for", hint=AGAIN)
        elif not plan.is_as(shown.plan):
            raise CardManagementError("the card was changed meanwhile", hint=AGAIN)
        progress = ProgressLine(plan)
        try:
            await manager.apply(plan, progress)
        finally:
            progress.clear()
        return plan

    async def _manager(self, connection: Connection) -> CardManager:
        return await open_manager(connection, self.options, self.reader.name, self.candidates)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A plan that was shown, and the identity of the card it is for."""

    plan: Plan
    card: bytes


async def open_manager(
    connection: Connection, options: CardOptions, name: str, candidates: Sequence[CardKeys]
) -> CardManager:
    """Return the card with a secure channel to its issuer security domain.

    Raises:
        CardManagementError: There is no such domain, or the keys cannot be its keys.
        SecureChannelError: The card refuses, or its keys are others.
        TransportError: No answer.
    """
    return await CardManager.open(
        connection, candidates, options.tools(), name=name, issuer_domain=options.issuer_domain()
    )


def with_connection(reader: Reader, work: Callable[[Connection], Awaitable[Found]]) -> Found:
    """Return what work on a powered card returns; the card is let go afterwards.

    Raises:
        TransportError: There is no reader, no card, or no answer.
    """

    async def run() -> Found:
        connection = await reader.connect()
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def _ask() -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "there is no terminal to ask on", hint="--yes carries the plan out, --dry-run shows it"
        )
    typer.confirm("Do this?", abort=True, err=True)
