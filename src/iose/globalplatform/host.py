# SPDX-License-Identifier: Apache-2.0
"""The host's end of a secure channel, sans I/O: commands out, answers in.

INITIALIZE UPDATE, EXTERNAL AUTHENTICATE, then any command wrapped and its answer unwrapped, one at
a time (GPCS 2.3.1 §10.2, Amendment D 1.2 §6). After any fault the channel is closed for good.
"""

from iose.crypto.base import CryptoProvider, Rng
from iose.globalplatform.channel import (
    CLASS,
    EXTERNAL_AUTHENTICATE,
    INITIALIZE_UPDATE,
    SCP02,
    SHORT_CHALLENGE_SIZE,
    ChannelState,
    InitiateAnswer,
    ScpVariant,
    SecureChannelError,
    SecurityLevel,
)
from iose.globalplatform.keys import KeySet
from iose.globalplatform.scp02 import Scp02Session
from iose.globalplatform.scp03 import Scp03Session
from iose.iso7816.apdu import SHORT_LE_LIMIT, CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.wire.errors import DecodeError, LocalProtocolError


class HostChannel:
    """A channel from INITIALIZE UPDATE to its end.

    Args:
        crypto: Primitives.
        rng: Source of the host challenge.
        keys: Static keys of this card; version 0 takes whichever set the card offers.
        level: Protection wanted; one of 01, 03, 11, 13, 33.
        expected: The variant the card must have; None takes the card's. SCP02 does not say its i,
            and a card of mode S16 wants a longer challenge: there it must be given.
    """

    def __init__(
        self,
        crypto: CryptoProvider,
        rng: Rng,
        keys: KeySet,
        level: SecurityLevel,
        *,
        expected: ScpVariant | None = None,
    ) -> None:
        _check_wishes(level, expected)
        self._crypto = crypto
        self._keys = keys
        self._level = level
        self._expected = expected
        size = expected.host_challenge_size if expected else SHORT_CHALLENGE_SIZE
        self._challenge = rng.random_bytes(size)
        self._state = ChannelState.START
        self._answer: InitiateAnswer | None = None
        self._session: Scp02Session | Scp03Session | None = None
        self._awaits_answer = False

    @property
    def state(self) -> ChannelState:
        """Where the channel is in its life."""
        return self._state

    @property
    def level(self) -> SecurityLevel:
        """Protection of the commands and answers of this channel."""
        return self._level

    @property
    def variant(self) -> ScpVariant:
        """The card's protocol and i.

        Raises:
            LocalProtocolError: The card did not answer INITIALIZE UPDATE yet.
        """
        return self._known.variant

    @property
    def diversification_data(self) -> bytes:
        """What the card says its keys were derived from, 10 bytes.

        Raises:
            LocalProtocolError: The card did not answer INITIALIZE UPDATE yet.
        """
        return self._known.diversification_data

    @property
    def key_version(self) -> int:
        """Version of the key set in use.

        Raises:
            LocalProtocolError: The card did not answer INITIALIZE UPDATE yet.
        """
        return self._known.key_version

    @property
    def max_command_data(self) -> int:
        """Longest data of a command that ``wrap`` takes, in bytes.

        Raises:
            SecureChannelError: The channel is closed.
            LocalProtocolError: The channel is not open yet.
        """
        return self._open_session().max_command_data

    def initialize_update(self) -> CommandApdu:
        """Return the first command (GPCS 2.3.1 §E.5.1).

        Raises:
            LocalProtocolError: It was given out before.
        """
        if self._state is not ChannelState.START:
            raise LocalProtocolError("a channel is initialized once")
        self._state = ChannelState.CHALLENGED
        version = self._keys.version
        return CommandApdu(CLASS, INITIALIZE_UPDATE, version, 0, self._challenge, SHORT_LE_LIMIT)

    def authenticate(self, response: ResponseApdu) -> CommandApdu:
        """Return EXTERNAL AUTHENTICATE, once the card has proved its keys (GPCS 2.3.1 §E.5.2).

        The answer to it goes to ``unwrap``.

        Raises:
            SecureChannelError: The card refuses, is not what was asked for, or has other keys; the
                channel is closed.
            LocalProtocolError: INITIALIZE UPDATE was not given out, or was answered before.
        """
        if self._state is not ChannelState.CHALLENGED:
            raise LocalProtocolError("no answer to INITIALIZE UPDATE is due")
        self._state = ChannelState.CLOSED  # until everything was found right
        if response.status != StatusWord.OK:
            raise SecureChannelError(
                f"the card refused INITIALIZE UPDATE with {response.status}",
                status=response.status,
                hint="is it a security domain that is selected, and has it this key version?",
            )
        self._answer = answer = self._read_answer(response.data)
        self._check_answer(answer)
        session = self._make_session(answer)
        if not self._crypto.constant_time_equal(answer.card_cryptogram, session.card_cryptogram):
            raise SecureChannelError(
                "the card's cryptogram is wrong: its keys are not these",
                hint="do not repeat this: some cards lock themselves after ten failures",
            )
        command = session.sign_command(
            CommandApdu(CLASS, EXTERNAL_AUTHENTICATE, self._level, 0, session.host_cryptogram)
        )
        self._session = session
        self._state = ChannelState.AUTHENTICATING
        self._awaits_answer = True
        return command

    def wrap(self, command: CommandApdu) -> CommandApdu:
        """Return a command as the card wants it (GPCS 2.3.1 §E.4.4, Amendment D 1.2 §6.2.4).

        Raises:
            SecureChannelError: The channel is closed.
            LocalProtocolError: The channel is not open yet, or the command is longer than
                ``max_command_data`` or secured already. Nothing changes.
        """
        session = self._open_session()
        if len(command.data) > self.max_command_data:
            raise LocalProtocolError(
                f"{len(command.data)} bytes of data do not fit one protected command, "
                f"which takes {self.max_command_data}"
            )
        wrapped = session.protect_command(command)
        self._awaits_answer = True
        return wrapped

    def unwrap(self, response: ResponseApdu) -> ResponseApdu:
        """Return what the card answered to the last command (Amendment D 1.2 §6.2.5).

        Errors are not protected by the protocol, and come back as they are.

        Raises:
            SecureChannelError: EXTERNAL AUTHENTICATE was refused, or the MAC or padding is missing
                or wrong; the channel is closed. Or it was closed before.
            LocalProtocolError: No answer is due.
        """
        if self._state is ChannelState.CLOSED:
            raise SecureChannelError("the secure channel is closed")
        session = self._session
        if session is None or not self._awaits_answer:
            raise LocalProtocolError("no answer is due on the secure channel")
        self._awaits_answer = False
        if self._state is ChannelState.AUTHENTICATING:
            self._finish_authentication(session, response)
            return response
        try:
            return session.unprotect_response(response)
        except SecureChannelError:
            self.close()
            raise

    def encrypt_key(self, key: bytes) -> bytes:
        """Return a key wrapped for PUT KEY (GPCS 2.3.1 §E.4.7, Amendment D 1.2 §6.2.8).

        Raises:
            SecureChannelError: The channel is closed.
            LocalProtocolError: The channel is not open yet, or the key does not fit the blocks.
        """
        return self._open_session().encrypt_key(key)

    def close(self) -> None:
        """Forget the session; the channel is of no more use."""
        self._state = ChannelState.CLOSED
        self._session = None

    @property
    def _known(self) -> InitiateAnswer:
        if self._answer is None:
            raise LocalProtocolError("the card did not answer INITIALIZE UPDATE yet")
        return self._answer

    def _open_session(self) -> Scp02Session | Scp03Session:
        if self._state is ChannelState.CLOSED:
            raise SecureChannelError("the secure channel is closed")
        if self._session is None or self._state is not ChannelState.OPEN:
            raise LocalProtocolError("the secure channel is not open yet")
        return self._session

    def _finish_authentication(
        self, session: Scp02Session | Scp03Session, response: ResponseApdu
    ) -> None:
        if response.status != StatusWord.OK or response.data:
            self.close()
            raise SecureChannelError(
                f"the card refused EXTERNAL AUTHENTICATE with {response.status}",
                status=response.status,
            )
        session.level = self._level
        self._state = ChannelState.OPEN

    def _read_answer(self, data: bytes) -> InitiateAnswer:
        try:
            if self._expected and self._expected.protocol == SCP02:
                return InitiateAnswer.decode(data, scp02_i=self._expected.i)
            return InitiateAnswer.decode(data)
        except DecodeError as error:
            raise SecureChannelError(f"the answer to INITIALIZE UPDATE: {error}") from error

    def _check_answer(self, answer: InitiateAnswer) -> None:
        variant = answer.variant
        if self._expected not in (None, variant):
            raise SecureChannelError(f"expected {self._expected}, the card has {variant}")
        if variant.host_challenge_size != len(self._challenge):
            raise SecureChannelError(
                f"the card has {variant}, which wants a longer challenge",
                hint=f"ask for {variant}",
            )
        if self._keys.version not in (0, answer.key_version):
            raise SecureChannelError(
                f"expected key version {self._keys.version:02X}, "
                f"the card has {answer.key_version:02X}"
            )
        if not self._keys.is_demo and self._keys.key_type is not variant.key_type:
            raise SecureChannelError(
                f"the card has {variant}, for which {self._keys.key_type.name} keys are no use"
            )
        if not variant.supports(self._level):
            raise SecureChannelError(f"{variant} has no level {self._level:02X}")

    def _make_session(self, answer: InitiateAnswer) -> Scp02Session | Scp03Session:
        if answer.variant.protocol == SCP02:
            return Scp02Session(
                self._crypto, self._keys, self._challenge, answer.counter, answer.card_challenge
            )
        return Scp03Session(
            self._crypto, answer.variant, self._keys, self._challenge, answer.card_challenge
        )


def _check_wishes(level: SecurityLevel, expected: ScpVariant | None) -> None:
    if not level.is_defined:
        raise LocalProtocolError(f"a channel has no level {level:02X}")
    if expected is not None and not expected.is_supported:
        raise LocalProtocolError(f"{expected} is not supported")
    if expected is not None and not expected.supports(level):
        raise LocalProtocolError(f"{expected} has no level {level:02X}")
