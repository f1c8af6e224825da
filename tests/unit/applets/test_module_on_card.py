# SPDX-License-Identifier: Apache-2.0
"""A TLS-SE applet whose PSK is in an identity module of the same card."""

from dataclasses import replace

import pytest

from iose.applets.tls_im import TLS_IM_AID, ModulePersonalisation
from iose.applets.tls_se import TLS_SE_AID, CommandSet, Flag, Limits, Settings, Wire, read_secrets
from iose.applets.tls_se.personalisation import Personalisation
from iose.card.registry import REGISTRY_NAME, Registry
from iose.globalplatform.life_cycle import ApplicationLifeCycle
from iose.iso7816.aid import Aid
from iose.iso7816.status import StatusWord
from iose.tls import PreSharedKey
from iose.tls.errors import AlertReceived
from iose.tls.events import HandshakeComplete
from tests.support.element import Client, Element, demo, reference_client
from tests.support.identity_module import DEMO_PSK, demo_module

OTHER = bytes(range(101, 133))
COMPATIBLE = Settings(Wire.COMPATIBLE, Limits.CHIP, CommandSet.V2_18)
SERVED = demo_module(psk=OTHER, clients=(TLS_SE_AID,))


def element(module: ModulePersonalisation | None = SERVED, **given: object) -> Element:
    return Element(demo(module=TLS_IM_AID, **given), module=module)


def connected(made: Element, psk: bytes = OTHER, identity: bytes = b"Client_identity") -> Client:
    return reference_client(made, PreSharedKey(identity, psk)).connect()


@pytest.mark.parametrize("settings", [Settings(), COMPATIBLE])
def test_the_module_opens_sessions_and_the_element_has_no_psk(settings):
    made = element(settings=settings)
    client = connected(made)
    assert client.status == StatusWord.TLS_OPEN
    assert any(isinstance(event, HandshakeComplete) for event in client.events)
    assert client.command("?01text") == "text"
    assert f"{TLS_SE_AID}/object/psk" not in made.store.contents
    assert not made.faults


def test_an_attestation_signs_the_handshake_secret_the_module_made():
    client = connected(element())
    assert client.engine.handshake_secret is not None
    assert len(client.command("?0B" + "11" * 32)) > 100


@pytest.mark.parametrize("psk", [DEMO_PSK, bytes(32)])
def test_another_psk_is_refused_as_ever(psk):
    made = element()
    client = reference_client(made, PreSharedKey(b"Client_identity", psk))
    made.reset_session()
    client.engine.start()
    with pytest.raises(AlertReceived):
        client.flush()
    assert not made.faults


def test_a_change_of_the_psk_is_refused_and_the_session_goes_on():
    client = connected(element())
    assert client.command("?AA" + OTHER.hex() + "22" * 32) == "ERROR"
    assert client.command("?01text") == "text"


@pytest.mark.parametrize(
    "module",
    [
        None,
        demo_module(psk=OTHER),
        demo_module(psk=OTHER, clients=(Aid(b"other"),)),
        ModulePersonalisation(clients=(TLS_SE_AID,)),
    ],
    ids=["absent", "not for us", "for another", "without a psk"],
)
@pytest.mark.parametrize("settings", [Settings(), COMPATIBLE])
def test_a_module_that_does_not_serve_ends_the_session_before_it_begins(module, settings):
    made = element(module, settings=settings)
    client = connected(made)
    ended = StatusWord.TLS_CLOSED if settings.is_hardened else StatusWord.TLS_ERROR
    assert client.status == ended
    assert client.received == b""
    assert not made.faults


@pytest.mark.parametrize("life_cycle", [ApplicationLifeCycle.LOCKED, None])
def test_a_module_locked_or_deleted_in_mid_life_serves_no_more(life_cycle):
    made = element()
    assert connected(made).status == StatusWord.TLS_OPEN
    stored = made.store.contents[REGISTRY_NAME]
    registry = Registry.decode(stored)
    entry = registry.find(TLS_IM_AID)
    if life_cycle is None:
        registry = registry.without(TLS_IM_AID)
    else:
        registry = registry.with_entry(replace(entry, life_cycle=life_cycle))
    for contents, status in (
        (registry.encode(), StatusWord.TLS_CLOSED),
        (stored, StatusWord.TLS_OPEN),
    ):
        made.card.power_off()
        made.store.contents[REGISTRY_NAME] = contents
        made.card.power_on()
        assert connected(made).status == status
    assert not made.faults


@pytest.mark.parametrize("settings", [Settings(), COMPATIBLE])
def test_a_module_whose_code_is_gone_ends_the_session_like_one_that_refuses(settings):
    made = element(settings=settings)
    made.card._contents.services.applets.pop("tls_im")
    ended = StatusWord.TLS_CLOSED if settings.is_hardened else StatusWord.TLS_ERROR
    assert connected(made).status == ended


def test_a_module_out_of_handshakes_ends_sessions_until_its_administrator_comes():
    made = element(demo_module(psk=OTHER, clients=(TLS_SE_AID,), handshake_limit=1))
    assert connected(made).status == StatusWord.TLS_OPEN
    assert connected(made).status == StatusWord.TLS_CLOSED
    made.apdu(f"00A4040006{TLS_IM_AID}")
    made.verify_admin()
    made.card.reset()
    assert connected(made).status == StatusWord.TLS_OPEN


def test_a_guest_has_a_psk_of_the_element_itself():
    made = element(guest_psk=OTHER, flags=Flag.GUEST_ENABLED, module=demo_module())
    client = connected(made, OTHER, b"guest")
    assert client.status == StatusWord.TLS_OPEN


def test_functions_on_the_psk_are_refused_for_there_is_none():
    made = element(settings=COMPATIBLE)
    made.verify_user()
    assert made.apdu("0085000C20" + "00" * 32) == "6985"


def test_the_owner_is_shown_no_psk():
    secrets = read_secrets(element().store.contents)
    assert secrets is not None
    assert secrets.psk is None
    assert secrets.user_pin == b"0000"


def test_a_personalisation_without_the_module_draws_a_psk():
    made = element(is_final=False)
    made.verify_admin()
    again = Personalisation().encode()
    assert made.apdu(f"00E28000{len(again):02X}" + again.hex()) == "9000"
    secrets = read_secrets(made.store.contents)
    assert secrets is not None
    assert secrets.psk is not None
    assert secrets.user_pin == b"0000"


def test_a_personalisation_with_a_module_forgets_the_psk():
    made = Element(demo(is_final=False), module=SERVED)
    assert f"{TLS_SE_AID}/object/psk" in made.store.contents
    made.verify_admin()
    again = Personalisation(module=TLS_IM_AID).encode()
    assert made.apdu(f"00E28000{len(again):02X}" + again.hex()) == "9000"
    assert f"{TLS_SE_AID}/object/psk" not in made.store.contents
    assert connected(made).status == StatusWord.TLS_OPEN
