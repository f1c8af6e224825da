# SPDX-License-Identifier: Apache-2.0
"""The card's end of a secure channel, sans I/O: its answer out, commands in.

A security domain makes one at each INITIALIZE UPDATE and drops it with the selection (GPCS 2.3.1
§10.2, Amendment D 1.2 §6). It owns the sequence counter and the challenge; after any fault the
channel is closed for good.
"""

from iose.crypto.base import CryptoProvider
from iose.globalplatform import scp02, scp03
from iose.globalplatform.channel import (
    EXTERNAL_AUTHENTICATE,
    SCP02,
    ChannelState,
    InitiateAnswer,
    ScpVariant,
    SecureChannelError,
    SecurityLevel,
)
from iose.globalplatform.keys import DIVERSIFICATION_SIZE, KeySet
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.wire.errors import DecodeError, LocalProtocolError


class CardChannel:
    """A channel from the answer to INITIALIZE UPDATE to its end.

    Args:
        crypto: Primitives.
        variant: Protocol and i.
        keys: Static keys of the version in use.
        sequence_counter: Its value for this session: the caller stores it before it answers, and
            never uses it twice with one key set.
        host_challenge: Data of INITIALIZE UPDATE.
        card_challenge: Fresh random bytes for a variant with random challenges, else None.
        aid: The security domain's, from which challenges are computed.
        diversification_data: What the keys were derived from, 10 bytes.

    Raises:
        DecodeError: The host challenge has the wrong size.
        LocalProtocolError: One of the other arguments does not fit the variant.
    """

    def __init__(  # noqa: PLR0913  # services, then options by name
        self,
        crypto: CryptoProvider,
        variant: ScpVariant,
        keys: KeySet,
        *,
        sequence_counter: int,
        host_challenge: bytes,
        card_challenge: bytes | None,
        aid: bytes,
        diversification_data: bytes,
    ) -> None:
        _check_arguments(variant, keys, card_challenge, diversification_data)
        if not 0 <= sequence_counter < 1 << (8 * variant.counter_size):
            raise LocalProtocolError("the sequence counter is at its end")
        if len(host_challenge) != variant.host_challenge_size:
            raise DecodeError(
                f"expected a host challenge of {variant.host_challenge_size} bytes, "
                f"found {len(host_challenge)}"
            )
        self._crypto = crypto
        self._variant = variant
        counter = sequence_counter.to_bytes(variant.counter_size, "big")
        if variant.protocol == SCP02:
            challenge = card_challenge or scp02.card_challenge(crypto, keys, counter, aid)
            session: scp02.Scp02Session | scp03.Scp03Session = scp02.Scp02Session(
                crypto, keys, host_challenge, counter, challenge
            )
        else:
            challenge = card_challenge or scp03.card_challenge(crypto, keys, variant, counter, aid)
            session = scp03.Scp03Session(crypto, variant, keys, host_challenge, challenge)
        self._answer = InitiateAnswer(
            diversification_data,
            keys.version,
            variant,
            counter if variant.has_counter_field else b"",
            challenge,
            session.card_cryptogram,
        )
        self._session: scp02.Scp02Session | scp03.Scp03Session | None = session
        self._state = ChannelState.CHALLENGED

    @property
    def state(self) -> ChannelState:
        """Where the channel is in its life: challenged, open or closed."""
        return self._state

    @property
    def level(self) -> SecurityLevel:
        """Protection in force; none before authentication and after the end."""
        is_open = self._state is ChannelState.OPEN and self._session is not None
        return self._session.level if is_open and self._session else SecurityLevel(0)

    @property
    def max_response_data(self) -> int:
        """Data of the longest answer that stays short once protected, in bytes.

        Raises:
            SecureChannelError: The channel is not open.
        """
        return self._open_session().max_response_data

    def response_data(self) -> bytes:
        """Return the answer to INITIALIZE UPDATE (GPCS 2.3.1 §E.5.1, Amendment D 1.2 §7.1.1)."""
        return self._answer.encode()

    def authenticate(self, command: CommandApdu) -> None:
        """Open the channel with EXTERNAL AUTHENTICATE (GPCS 2.3.1 §E.5.2).

        Its answer carries no protection. ``status`` of the error is what to answer: 6300 for a
        wrong cryptogram, 6982 for a wrong MAC.

        Raises:
            SecureChannelError: It is not EXTERNAL AUTHENTICATE, asks for a level this variant does
                not have, or has a wrong cryptogram or MAC, or none is due; the channel is closed.
        """
        session, is_due = self._session, self._state is ChannelState.CHALLENGED
        self._state = ChannelState.CLOSED  # until everything was found right
        self._session = None
        if session is None or not is_due:
            raise SecureChannelError(
                "EXTERNAL AUTHENTICATE is not due", status=StatusWord.CONDITIONS_NOT_SATISFIED
            )
        if not self._crypto.constant_time_equal(
            command.data[: self._variant.mac_size], session.host_cryptogram
        ):
            raise SecureChannelError("the host's cryptogram is wrong", status=StatusWord.PIN_WRONG)
        plain = session.verify_command(command)
        expected = (EXTERNAL_AUTHENTICATE, 0, self._variant.mac_size)
        if (plain.ins, plain.p2, len(plain.data)) != expected:
            raise SecureChannelError(
                "the command is not EXTERNAL AUTHENTICATE", status=StatusWord.WRONG_P1P2
            )
        level = SecurityLevel(plain.p1)
        if not self._variant.supports(level):
            raise SecureChannelError(
                f"{self._variant} has no level {plain.p1:02X}", status=StatusWord.WRONG_P1P2
            )
        session.level = level
        self._session = session
        self._state = ChannelState.OPEN

    def unwrap(self, command: CommandApdu) -> CommandApdu:
        """Return what the host sent, once its protection is found right (Amendment D 1.2 §6.2.4).

        Raises:
            SecureChannelError: MAC or padding are missing or wrong; the channel is closed. Or the
                channel is not open.
        """
        session = self._open_session()
        try:
            return session.unprotect_command(command)
        except SecureChannelError:
            self.close()
            raise

    def wrap(self, response: ResponseApdu) -> ResponseApdu:
        """Return the answer to the last command, protected (Amendment D 1.2 §6.2.5).

        Errors lose their data and are not protected.

        Raises:
            SecureChannelError: The channel is not open.
        """
        return self._open_session().protect_response(response)

    def decrypt_key(self, data: bytes) -> bytes:
        """Return the key that ``data`` wraps, padding included (GPCS 2.3.1 §E.4.7).

        Raises:
            DecodeError: Not whole blocks.
            SecureChannelError: The channel is not open.
        """
        return self._open_session().decrypt_key(data)

    def close(self) -> None:
        """Forget the session; the channel is of no more use."""
        self._state = ChannelState.CLOSED
        self._session = None

    def _open_session(self) -> scp02.Scp02Session | scp03.Scp03Session:
        if self._state is not ChannelState.OPEN or self._session is None:
            raise SecureChannelError("the secure channel is not open")
        return self._session


def _check_arguments(
    variant: ScpVariant, keys: KeySet, challenge: bytes | None, diversification_data: bytes
) -> None:
    if not variant.is_supported:
        raise LocalProtocolError(f"{variant} is not supported")
    if not keys.is_demo and keys.key_type is not variant.key_type:
        raise LocalProtocolError(f"{variant} needs {variant.key_type.name} keys")
    if len(diversification_data) != DIVERSIFICATION_SIZE:
        raise LocalProtocolError(f"diversification data have {DIVERSIFICATION_SIZE} bytes")
    if variant.has_random_challenge != (challenge is not None):
        raise LocalProtocolError(f"{variant} takes a card challenge that is random, or none")
    if challenge is not None and len(challenge) != variant.card_challenge_size:
        raise LocalProtocolError(f"a card challenge has {variant.card_challenge_size} bytes")
