# SPDX-License-Identifier: Apache-2.0
"""An identity module on a card in a PC/SC reader, for a client of openssl's server."""

from pathlib import Path

import pytest

import iose
from tests.support.identity_module import DEMO_PSK, Module
from tests.support.openssl_server import openssl_servers
from tests.support.virtual_card import T0Card, VirtualService

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.mark.parametrize("is_t0", [True, False], ids=["T=0", "T=1"])
def test_a_card_in_a_reader_computes_for_openssl(
    service: VirtualService, tmp_path: Path, *, is_t0: bool
):
    module = Module()
    module.card.power_off()
    inserted = service.insert(T0Card(module.card) if is_t0 else module.card)
    store = iose.CredentialsStore(tmp_path / "credentials")
    place = iose.ReaderModule.decode("pcsc:virtual%20pcd", pin=b"0000")
    with openssl_servers(tmp_path, DEMO_PSK) as start:
        uri = f"keyS://key1.com@127.0.0.1:{start()}"
        for _ in range(2):
            with iose.connect(uri, module=place, credentials=store, timeout_s=30) as element:
                assert element.command("abc") == b"cba"
        inserted.remove()
        with pytest.raises(iose.ModuleError):
            iose.connect(uri, module=place, credentials=store, timeout_s=30)
