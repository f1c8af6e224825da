# SPDX-License-Identifier: Apache-2.0
"""Table ``racs`` of a configuration: the administration plane, in the operator's words.

``administration`` makes the plane of it, in the node process; ``config`` reads and checks it.
"""

from dataclasses import dataclass
from typing import Final, Literal

DEFAULT_RACS: Final = "127.0.0.1:7777"
OPERATOR_RULE: Final = {
    "user": "operator",
    "elements": ["*"],
    "verbs": ["*", "SEN", "VERIFY", "preempt", "logical_channels", "manage_channel"],
    "aids": ["*"],
}
"""What ``iose up`` lets the owner of its data folder do: everything."""


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """One of ``racs.rules``: what a user may do to some elements; see ``policy.Rule``."""

    user: str
    elements: tuple[str, ...]
    verbs: tuple[str, ...]
    aids: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RacslSettings:
    """One of ``racs.racsl``: who comes with a pre-shared key, and to which element.

    Attributes:
        identity: PSK identity of the client; ``psk:<identity>`` in rules.
        psk_file: File of mode 0600 that holds the key, 64 hex digits.
        element: SEID of the one element it reaches.
    """

    identity: str
    psk_file: str
    element: str


@dataclass(frozen=True, slots=True)
class RacsSettings:
    """Table ``racs``: as ``RacsConfig``, whose default stands where nothing is written here.

    Attributes:
        listen: Addresses, ``HOST:PORT``.
        names: More names and addresses for the node's own certificate.
        certificate: The node's certificate in PEM; "" for that of the data folder's authority.
        key: Its key.
        ca: Certificates of those who certify users; "" for the data folder's authority.
        crl: Their revocation list; "" for that of the data folder's authority, if it certifies.
        compat: ``reference`` does all as the published server does.
        legacy_rsa_kx: Let clients in that know no key exchange but RSA.
        http_listen: Addresses of the HTTP binding.
        racsl_listen: Addresses of RACS Lite.
        rules: Who may do what; nobody may do anything without one.
        racsl: Clients of RACS Lite.
    """

    listen: tuple[str, ...] = (DEFAULT_RACS,)
    names: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""
    ca: str = ""
    crl: str = ""
    compat: Literal["", "reference"] = ""
    legacy_rsa_kx: bool = False
    handshake_s: float | None = None
    idle_s: float | None = None
    session_s: float | None = None
    hold_idle_s: float | None = None
    hold_idle_awaited_s: float | None = None
    drain_s: float | None = None
    session_limit: int | None = None
    sessions_per_user: int | None = None
    response_limit: int | None = None
    block_limit: int | None = None
    http_listen: tuple[str, ...] = ()
    http_get_acts: bool = False
    racsl_listen: tuple[str, ...] = ()
    rules: tuple[RuleSettings, ...] = ()
    racsl: tuple[RacslSettings, ...] = ()

    @property
    def needs_authority(self) -> bool:
        """Whether the data folder's own authority is used."""
        return not (self.certificate and self.ca)

    @property
    def addresses(self) -> tuple[tuple[str, ...], ...]:
        """Where the plane listens: what cannot change while the node runs."""
        return (self.listen, self.http_listen, self.racsl_listen)
