# SPDX-License-Identifier: Apache-2.0
"""Card management goes through a PC/SC service and its driver as through readers of our own."""

import asyncio
from pathlib import Path

import pytest

from iose.client.card.channel import Tools
from iose.client.card.failed_keys import FailedKeys
from iose.client.card.installation import InstallationRequest, plan_installation
from iose.client.card.inventory import CardInventory
from iose.client.card.key_files import PUBLISHED_KEYS
from iose.client.card.manager import CardManager
from iose.crypto.pyca import PycaCrypto
from iose.runtime.entropy import OsRng
from iose.runtime.packages import shipped_packages
from tests.support.pcsc import PcscConnection
from tests.support.virtual_card import VirtualCard

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


def test_a_package_is_installed_through_a_pcsc_reader(card: VirtualCard, tmp_path: Path):
    shipped = shipped_packages()["tls-im"]
    crypto = PycaCrypto()
    tools = Tools(crypto, OsRng(), FailedKeys(crypto, tmp_path))
    request = InstallationRequest(
        shipped.load_file, shipped.applet_aid, shipped.applet_aid, shipped.name
    )

    async def work() -> CardInventory:
        connection = PcscConnection()
        try:
            manager = await CardManager.open(connection, [PUBLISHED_KEYS], tools, name="pcsc")
            plan = plan_installation(await manager.inventory(), request, manager.channel.block_size)
            await manager.apply(plan)
            return await manager.inventory()
        finally:
            await connection.close()

    found = asyncio.run(work())
    assert found.application(shipped.applet_aid) is not None
    assert found.load_file(shipped.load_file.package_aid) is not None
