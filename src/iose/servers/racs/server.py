# SPDX-License-Identifier: Apache-2.0
"""The RACS server: listens, admits users by their certificates, counts and shows (racs.md §2, §8).

What one connection does is in ``connection``, what a command does in ``session``.
"""

import socket
import ssl
from collections.abc import Callable, Iterable, Sequence

from iose.servers.holders import ElementHolders
from iose.servers.racs.audit import AuditLog
from iose.servers.racs.config import RacsConfig
from iose.servers.racs.elements import ElementTable, RacsElement
from iose.servers.racs.names import NameRegister
from iose.servers.racs.policy import AccessPolicy


class RacsServer:
    """The administration plane of a node.

    Args:
        config: Settings.
        context: TLS with client certificates required; nobody gets in without one.
        elements: What there is to administer; ``reload`` replaces them.
        policy: Who may do what; the same.
        holders: The locks of the node's elements, shared with the service plane.
        audit: Where every act is written before it is done.
        names: Where SEN and GET-SEN look.

    Raises:
        RoutingError: A SEID is not one, or leads to two elements.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # a plane is put together of its services
        self,
        config: RacsConfig,
        context: ssl.SSLContext,
        elements: Iterable[RacsElement],
        policy: AccessPolicy,
        holders: ElementHolders,
        audit: AuditLog,
        names: NameRegister,
    ) -> None:
        self.config = config
        self.context = context
        self.table = ElementTable(elements)
        self.policy = policy
        self.holders = holders
        self.audit = audit
        self.names = names

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the server listens, real ports included."""
        return ()

    async def start(self, listeners: Sequence[socket.socket] = ()) -> None:
        """Listen on every configured address, or on the bound sockets handed in.

        Raises:
            OSError: An address cannot be had; none is listened on.
        """

    async def stop(self) -> None:
        """Stop accepting, let requests that run end, then end the sessions."""

    def reload(self, elements: Iterable[RacsElement], policy: AccessPolicy) -> None:
        """Replace elements and rules; sessions lose what they may not hold any more.

        Raises:
            RoutingError: The new elements are refused; the old ones stay.
        """
        self.table = ElementTable(elements)
        self.policy = policy

    def recheck(self, is_revoked: Callable[[bytes], bool]) -> None:
        """End the sessions of certificates, in DER, that are revoked."""
