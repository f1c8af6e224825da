# SPDX-License-Identifier: Apache-2.0
"""A secure channel to the security domain of a card, over any connection (GPCS 2.3.1 §10).

Keys are tried on the host's side only: the card's cryptogram tells whether they fit before the card
is shown anything, and keys that did not fit are not tried again by accident.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from iose.client.card.errors import CardManagementError, WrongKeysError
from iose.client.card.failed_keys import FailedKeys
from iose.client.card.key_files import CardKeys
from iose.crypto.base import CryptoProvider, Rng
from iose.globalplatform.channel import (
    CLASS,
    INITIALIZE_UPDATE,
    SCP02,
    SCP03,
    SHORT_CHALLENGE_SIZE,
    InitiateAnswer,
    ScpVariant,
    SecureChannelError,
    SecurityLevel,
)
from iose.globalplatform.host import HostChannel
from iose.globalplatform.keys import ANY_VERSION, KeySet, diversify
from iose.globalplatform.status import explain
from iose.iso7816.apdu import SHORT_LE_LIMIT, CommandApdu, ResponseApdu
from iose.iso7816.batch import BatchStep
from iose.iso7816.status import StatusWord, StatusWordError
from iose.transport.base import Connection
from iose.wire.errors import DecodeError

# the strongest first: both ways encrypted, answers with a MAC, commands alone
LEVELS: Final = tuple(SecurityLevel(level) for level in (0x33, 0x13, 0x03))
LONG_CHALLENGE_SIZE: Final = 16
HINTS: Final = {
    StatusWord.FOREIGN_PACKAGE: "software elements run the applets shipped with iose only",
}
OFFER_HINT: Final = "'iose card info' shows which key versions and protocols it has"
BLOCKED_HINT: Final = "a software element is unblocked by its owner: iose element unlock NAME"
FAILED_HINT: Final = "these keys are remembered, and not tried on this card again"


@dataclass(frozen=True, slots=True)
class Tools:
    """What card management needs of this host.

    Attributes:
        crypto: The primitives.
        rng: Source of challenges and of new keys.
        failed: Which keys failed on which card.
        retries_failed: Whether keys that failed before are tried once more.
    """

    crypto: CryptoProvider
    rng: Rng
    failed: FailedKeys
    retries_failed: bool = False


class CardChannel:
    """An open secure channel: plain commands in, plain answers out.

    Attributes:
        keys: The keys that fitted.
    """

    def __init__(
        self, connection: Connection, channel: HostChannel, keys: CardKeys, crypto: CryptoProvider
    ) -> None:
        self.keys = keys
        self._crypto = crypto
        self._connection = connection
        self._channel = channel

    @property
    def variant(self) -> ScpVariant:
        """Protocol and i of the channel."""
        return self._channel.variant

    @property
    def level(self) -> SecurityLevel:
        """How commands and answers are protected."""
        return self._channel.level

    @property
    def key_version(self) -> int:
        """Version of the card's key set in use."""
        return self._channel.key_version

    @property
    def block_size(self) -> int:
        """Data that one command takes, in bytes."""
        return self._channel.max_command_data

    def encrypt_key(self, key: bytes) -> bytes:
        """Return a key wrapped for PUT KEY.

        Raises:
            SecureChannelError: The channel is closed.
        """
        return self._channel.encrypt_key(key)

    def derive(self, keys: CardKeys) -> KeySet:
        """Return the keys of this card that follow from new ones.

        Raises:
            CardManagementError: None follow.
        """
        data = self._channel.diversification_data
        return derive(self._crypto, keys, data, self.variant)

    async def exchange(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to one command, whatever its status.

        Raises:
            TransportError: No answer; the command may or may not have been carried out.
            SecureChannelError: The answer is not the card's.
        """
        response = await _transmit(self._connection, self._channel.wrap(command))
        return self._channel.unwrap(response)

    async def require(
        self, command: CommandApdu, words: str, accepted: frozenset[int] = frozenset()
    ) -> ResponseApdu:
        """Return the answer to one command that has to succeed.

        Args:
            command: The command.
            words: What it is for, to begin the error with.
            accepted: Other status words that will do.

        Raises:
            StatusWordError: The card refused; the message says why.
            TransportError: No answer.
            SecureChannelError: The answer is not the card's.
        """
        response = await self.exchange(command)
        if not response.status.is_success and response.status not in accepted:
            raise StatusWordError(
                response.status,
                refusal(response.status, command.ins, words),
                hint=HINTS.get(response.status),
            )
        return response


def derive(
    crypto: CryptoProvider, keys: CardKeys, diversification_data: bytes, variant: ScpVariant
) -> KeySet:
    """Return the keys of one card that follow from what its administrator has.

    Raises:
        CardManagementError: None follow, or they do not fit the protocol.
    """
    masters = keys.key_set(variant.key_type)
    try:
        return diversify(crypto, masters, diversification_data, keys.diversification)
    except DecodeError as error:
        raise CardManagementError(f"keys of the card cannot be derived: {error}") from None


def refusal(status: StatusWord, ins: int, words: str) -> str:
    """Return what there is to say of a refused command."""
    return f"{words}: {explain(status, ins)} ({status})"


async def open_channel(
    connection: Connection,
    candidates: Sequence[CardKeys],
    tools: Tools,
    card: bytes,
    *,
    announced: ScpVariant | None = None,
) -> CardChannel:
    """Return a secure channel to the selected security domain, at the strongest level it has.

    Args:
        connection: A powered card.
        candidates: Keys that may fit, the likelier first; of an interrupted change both the new
            and the old ones. The card's one cryptogram tells which.
        tools: What is needed of this host.
        card: What tells this card from others.
        announced: Protocol the card announces in clear, if it does.

    Raises:
        CardManagementError: The keys cannot be those of this card.
        SecureChannelError: The card refuses.
        WrongKeysError: Its keys are others, or these failed on it before.
        TransportError: No answer.
    """
    usable = _not_failed(candidates, tools, card)
    expected = next((keys.variant for keys in usable if keys.variant), announced)
    is_long = expected is not None and expected.is_s16
    challenge = tools.rng.random_bytes(LONG_CHALLENGE_SIZE if is_long else SHORT_CHALLENGE_SIZE)
    response = await _initialize(connection, usable, challenge)
    answer = _peek(response, expected)
    fitting = [keys for keys in usable if keys.version in {ANY_VERSION, answer.key_version}]
    channel, command, keys = _prove_card(fitting, answer, response, challenge, tools, card)
    try:
        channel.unwrap(await _transmit(connection, command))
    except SecureChannelError as error:
        tools.failed.note(card, keys)
        raise WrongKeysError(
            f"the card refuses these keys: {explain(error.status, command.ins)} ({error.status})",
            status=error.status,
            hint=FAILED_HINT,
        ) from error
    tools.failed.forget(card, keys)
    return CardChannel(connection, channel, keys, tools.crypto)


def _not_failed(candidates: Sequence[CardKeys], tools: Tools, card: bytes) -> Sequence[CardKeys]:
    """Return the keys that may be tried: those that did not fail before.

    Raises:
        WrongKeysError: All of them failed.
    """
    failed = [keys for keys in candidates if tools.failed.has(card, keys)]
    if tools.retries_failed or not failed:
        return candidates
    if len(failed) == len(candidates):
        raise WrongKeysError(
            "these keys failed on this card before; a card blocks for good after a few failures",
            hint="use the right keys, or try these once more with --retry-keys",
        )
    return [keys for keys in candidates if keys not in failed]


async def _initialize(
    connection: Connection, candidates: Sequence[CardKeys], challenge: bytes
) -> ResponseApdu:
    """Return the answer to INITIALIZE UPDATE for the first key version that the card has.

    Raises:
        SecureChannelError: It has none of them, or refuses.
    """
    response = ResponseApdu(status=StatusWord.REFERENCED_DATA_NOT_FOUND)
    for version in dict.fromkeys(keys.version for keys in candidates):
        command = CommandApdu(CLASS, INITIALIZE_UPDATE, version, 0, challenge, SHORT_LE_LIMIT)
        response = await _transmit(connection, command)
        if response.status != StatusWord.REFERENCED_DATA_NOT_FOUND:
            break
    if response.status == StatusWord.OK:
        return response
    reason = explain(response.status, INITIALIZE_UPDATE)
    is_blocked = response.status == StatusWord.AUTHENTICATION_BLOCKED
    raise SecureChannelError(
        f"the card opens no secure channel: {reason} ({response.status})",
        status=response.status,
        hint=BLOCKED_HINT if is_blocked else OFFER_HINT,
    )


def _peek(response: ResponseApdu, expected: ScpVariant | None) -> InitiateAnswer:
    try:
        if expected is not None and expected.protocol == SCP02:
            return InitiateAnswer.decode(response.data, scp02_i=expected.i)
        return InitiateAnswer.decode(response.data)
    except DecodeError as error:
        raise SecureChannelError(f"the answer to INITIALIZE UPDATE: {error}") from error


def _prove_card(  # one exchange and all it depends on
    fitting: Sequence[CardKeys],
    answer: InitiateAnswer,
    response: ResponseApdu,
    challenge: bytes,
    tools: Tools,
    card: bytes,
) -> tuple[HostChannel, CommandApdu, CardKeys]:
    """Return the channel of the keys that explain the card's cryptogram, and its next command.

    Raises:
        SecureChannelError: None of them does.
    """
    fault = SecureChannelError(
        f"the card offers keys of version {answer.key_version:02X}, and none were given"
    )
    for keys in fitting:
        channel = _host_channel(keys, answer, challenge, tools)
        channel.initialize_update()  # it went out already, with the same challenge
        try:
            return channel, channel.authenticate(response), keys
        except SecureChannelError as error:
            fault = WrongKeysError(str(error), status=error.status, hint=FAILED_HINT)
    for keys in fitting:
        tools.failed.note(card, keys)
    raise fault


def _host_channel(
    keys: CardKeys, answer: InitiateAnswer, challenge: bytes, tools: Tools
) -> HostChannel:
    """Return a channel whose only reason to fail can be the card's cryptogram.

    Raises:
        CardManagementError: The keys cannot be those of this card.
    """
    variant = answer.variant
    known = keys.variant
    # SCP02 does not say its i
    is_other = known is not None and (
        known != variant if variant.protocol == SCP03 else known.protocol != variant.protocol
    )
    if is_other:
        raise CardManagementError(
            f"these keys are for {known}, and the card speaks {variant}",
            hint="is it the right card, and is nobody in between?",
        )
    return HostChannel(
        tools.crypto,
        _Drawn(challenge),
        derive(tools.crypto, keys, answer.diversification_data, variant),
        next(level for level in LEVELS if variant.supports(level)),
        expected=variant,
    )


async def _transmit(connection: Connection, command: CommandApdu) -> ResponseApdu:
    return (await connection.transmit_batch([BatchStep(command, None)]))[0]


class _Drawn:
    """An ``Rng`` that hands out a challenge drawn before."""

    def __init__(self, challenge: bytes) -> None:
        self._challenge = challenge

    def random_bytes(self, count: int) -> bytes:
        """Return the challenge."""
        return self._challenge[:count]
