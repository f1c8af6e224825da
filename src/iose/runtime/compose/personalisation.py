# SPDX-License-Identifier: Apache-2.0
"""What a new instance of our applets is given: secrets drawn for it, encoded as it takes them.

For who installs one over the administration plane, and keeps what was drawn.
"""

from collections.abc import Mapping
from dataclasses import replace

from iose.applet_commands.pins import random_pin
from iose.applet_commands.psk import PSK_SIZE
from iose.applets.tls_im import ModulePersonalisation
from iose.applets.tls_im.personalisation import USER_PIN_SIZE
from iose.applets.tls_se import Personalisation
from iose.applets.tls_se.state import DEFAULT_GUEST_IDENTITY, DEFAULT_IDENTITY
from iose.runtime.entropy import OsRng


def draw_instance_secrets() -> dict[str, str]:
    """Return secrets of a new TLS-SE instance, by the names ``read_secrets`` gives them."""
    source = OsRng()
    return {
        "psk": source.random_bytes(PSK_SIZE).hex(),
        "psk_identity": text(DEFAULT_IDENTITY),
        "user_pin": text(random_pin(source)),
        "admin_pin": text(random_pin(source)),
        "guest_psk": source.random_bytes(PSK_SIZE).hex(),
        "guest_psk_identity": text(DEFAULT_GUEST_IDENTITY),
    }


def encode_instance(sen: str, seid: str, secrets: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return what a new TLS-SE instance is given: parameters of INSTALL, content of STORE DATA.

    Until it has both it is not personalised, and what it drew itself is known to nobody.

    Args:
        sen: Its TLS server name.
        seid: Name of its element on the administration plane.
        secrets: What ``draw_instance_secrets`` returned.
    """
    first = Personalisation(sen.encode("ascii"), seid=seid.encode(), is_final=False)
    final = replace(
        first,
        psk=bytes.fromhex(secrets["psk"]),
        identity=secrets["psk_identity"].encode(),
        user_pin=secrets["user_pin"].encode(),
        admin_pin=secrets["admin_pin"].encode(),
        guest_psk=bytes.fromhex(secrets["guest_psk"]),
        guest_identity=secrets["guest_psk_identity"].encode(),
        is_final=True,
    )
    return first.encode(), final.encode()


def draw_module_secrets() -> dict[str, str]:
    """Return PINs of a new identity module, by the names ``read_secrets`` gives them."""
    source = OsRng()
    return {
        "user_pin": text(random_pin(source, USER_PIN_SIZE)),
        "admin_pin": text(random_pin(source)),
    }


def encode_module(secrets: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return what a new identity module is given: parameters of INSTALL, content of STORE DATA.

    Its PSK is provisioned later, by who holds the PIN.
    """
    first = ModulePersonalisation(is_final=False)
    final = ModulePersonalisation(
        user_pin=secrets["user_pin"].encode(), admin_pin=secrets["admin_pin"].encode()
    )
    return first.encode(), final.encode()


def text(value: bytes) -> str:
    """Return the text in a secret that people type, whatever its bytes."""
    return value.decode("utf-8", "backslashreplace")
