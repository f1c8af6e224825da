# SPDX-License-Identifier: Apache-2.0
"""A card, or whoever sits before it, answers what it likes: management fails as declared, or not.

Answers of a real card are changed at random places; what comes out is the truth, or an error that
names the fault. Nothing that protects answers lets a change of them pass for the card's word.
"""

import asyncio
import contextlib
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iose.client.card.information import read_information
from iose.client.card.installation import InstallationRequest, plan_installation
from iose.client.card.inventory import CardInventory
from iose.client.card.key_files import PUBLISHED_KEYS
from iose.client.card.manager import CardManager, select_issuer_domain
from iose.globalplatform.channel import ScpVariant
from iose.iso7816.apdu import ResponseApdu
from iose.runtime.packages import shipped_packages
from iose.wire.errors import DecodeError, IoseError
from tests.support.managed_card import ManagedCard, tools

SHIPPED = shipped_packages()["tls-im"]
REQUEST = InstallationRequest(SHIPPED.load_file, SHIPPED.applet_aid, SHIPPED.applet_aid, "tls-im")
OPENED = 5  # commands before the channel protects answers: SELECT, 2 GET DATA, the 2 of the channel
RUNS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

answers = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(["6310", "6100", "6C05", "9000", "6A88", "6985", "9F10"]).map(bytes.fromhex),
)


class Liar:
    """A connection to an honest card, some of whose answers are replaced."""

    def __init__(self, inner, lies: dict[int, bytes]) -> None:
        self._inner = inner
        self._lies = lies
        self._number = 0

    async def transmit_batch(self, steps):
        responses = await self._inner.transmit_batch(steps)
        lie = self._lies.get(self._number)
        self._number += 1
        if lie is None:
            return responses
        try:
            return [ResponseApdu.decode(lie)]
        except DecodeError:
            return responses


def administer(lies: dict[int, bytes], variant: ScpVariant) -> CardInventory | None:
    async def work() -> CardInventory:
        with tempfile.TemporaryDirectory() as folder:
            connection = Liar(await ManagedCard(variant).connect(), lies)
            manager = await CardManager.open(
                connection, [PUBLISHED_KEYS], tools(Path(folder)), name="card"
            )
            await manager.apply(
                plan_installation(await manager.inventory(), REQUEST, manager.channel.block_size)
            )
            return await manager.inventory()

    try:
        return asyncio.run(work())
    except IoseError:
        return None


@RUNS
@given(st.dictionaries(st.integers(0, 16), answers, max_size=4), st.sampled_from([0x10, 0x70]))
def test_any_answers_end_in_a_declared_error_or_in_what_was_asked(lies, i):
    administer(lies, ScpVariant(3, i))


@RUNS
@given(st.dictionaries(st.integers(OPENED, 16), st.binary(min_size=3, max_size=80), min_size=1))
def test_no_answer_with_data_is_believed_that_the_card_did_not_give(lies):
    truth = administer({}, ScpVariant(3, 0x70))
    assert truth is not None
    assert administer(lies, ScpVariant(3, 0x70)) in (None, truth)


@RUNS
@given(st.lists(answers, max_size=12))
def test_information_is_read_from_any_card(replies):
    async def work() -> None:
        inner = await ManagedCard().connect()
        connection = Liar(inner, dict(enumerate(replies)))
        await select_issuer_domain(connection)
        await read_information(connection)

    with contextlib.suppress(IoseError):
        asyncio.run(work())
