# SPDX-License-Identifier: Apache-2.0
"""The issuer security domain: from an APDU to the part that carries it out (GPCS 2.3.1 §10, §11).

What is free to read is answered in clear; everything else only inside an authenticated channel,
whose MAC is checked here, before a command means anything.
"""

from typing import Final

from iose.applet_api import AppletContext
from iose.applets.security_domain.content import ContentCommands
from iose.applets.security_domain.data import DomainData
from iose.applets.security_domain.state import (
    FAILURE_LIMIT,
    DomainParameters,
    DomainState,
    Name,
)
from iose.globalplatform.card import CardChannel
from iose.globalplatform.channel import (
    CHANNEL_BITS,
    CLASS,
    SECURE_MESSAGING,
    ChannelState,
    SecureChannelError,
    SecurityLevel,
)
from iose.globalplatform.commands import Ins
from iose.globalplatform.data_objects import SelectTag
from iose.globalplatform.life_cycle import CardLifeCycle
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError

COMMAND_DATA_LIMIT: Final = b"\xff"  # of one command, as the domain says of itself


class SecurityDomainApplet:
    """The issuer security domain of one card (``Applet``)."""

    def __init__(self, context: AppletContext) -> None:
        if context.management is None:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, "not a security domain")
        self._context = context
        self._management = context.management
        self._state = DomainState(context.store)
        self._data = DomainData(self._state)
        self._content = ContentCommands(context.crypto, self._state, self._data, context.management)
        self._channel: CardChannel | None = None
        self._key_version = 0

    def install(self, parameters: bytes) -> None:
        """Write the first state: the parameters are encoded ``DomainParameters``.

        Raises:
            StatusWordError: 6A80, the parameters are refused.
        """
        try:
            given = DomainParameters.decode(parameters)
        except DecodeError:
            raise StatusWordError(StatusWord.WRONG_DATA) from None
        self._state.initialise(given, self._context.rng)

    def select(self) -> ResponseApdu:
        """Return the control information of the domain; its channel is closed."""
        self._end()
        name = Tlv(SelectTag.NAME, self._context.aid.value).encode()
        limit = Tlv(SelectTag.LONGEST_COMMAND_DATA, COMMAND_DATA_LIMIT).encode()
        proprietary = Tlv(SelectTag.PROPRIETARY_DATA, limit).encode()
        return ResponseApdu(Tlv(SelectTag.CONTROL_INFORMATION, name + proprietary).encode())

    def deselect(self) -> None:
        """Forget the channel and what was under way in it."""
        self._end()

    def process(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to one command.

        Raises:
            StatusWordError: The command is refused.
        """
        if command.cla & ~(CLASS | SECURE_MESSAGING | CHANNEL_BITS):
            raise StatusWordError(StatusWord.CLA_NOT_SUPPORTED)
        is_secured = command.cla & SECURE_MESSAGING
        if command.ins == Ins.EXTERNAL_AUTHENTICATE:
            return self._authenticate(command)
        if is_secured:
            return self._secured(command)
        if command.ins == Ins.GET_DATA:
            return self._data.get(command)
        if command.ins == Ins.INITIALIZE_UPDATE:
            return self._initialize(command)
        self._end()
        if self._content.knows(command.ins):
            raise StatusWordError(StatusWord.SECURITY_STATUS_NOT_SATISFIED)
        raise StatusWordError(StatusWord.INS_NOT_SUPPORTED)

    def _initialize(self, command: CommandApdu) -> ResponseApdu:
        """Answer INITIALIZE UPDATE; a channel there was is over (GPCS 2.3.1 §E.5.1).

        Raises:
            StatusWordError: 6983 too many wrong keys, 6985 the card is terminated or the keys
                are used up, 6A88 no such key version, 6A86 or 6700.
        """
        self._end()
        self._check_alive()
        if self._state.failures >= FAILURE_LIMIT:
            raise StatusWordError(StatusWord.AUTHENTICATION_BLOCKED)
        if command.p2:
            raise StatusWordError(StatusWord.WRONG_P1P2)
        keys = self._state.keys.find(command.p1)
        if keys is None:
            raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND)
        variant = self._state.variant
        counter = self._state.counter(keys.version)
        if counter.bit_length() > 8 * variant.counter_size:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        challenge = None
        if variant.has_random_challenge:
            challenge = self._context.rng.random_bytes(variant.card_challenge_size)
        try:
            channel = CardChannel(
                self._context.crypto,
                variant,
                keys,
                sequence_counter=counter,
                host_challenge=command.data,
                card_challenge=challenge,
                aid=self._context.aid.value,
                diversification_data=self._state.text(Name.DIVERSIFICATION_DATA),
            )
        except DecodeError:
            raise StatusWordError(StatusWord.WRONG_LENGTH) from None
        self._channel, self._key_version = channel, keys.version
        return ResponseApdu(channel.response_data())

    def _authenticate(self, command: CommandApdu) -> ResponseApdu:
        """Open the channel; failure and counter are stored before anything is compared.

        Raises:
            StatusWordError: 6985 none is due; 6A86 a level that the protocol does not have, and
                nothing is compared; 6300 or 6982 wrong cryptogram or MAC.
        """
        channel = self._channel
        if channel is None or channel.state is not ChannelState.CHALLENGED:
            self._end()
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        if command.p2 or not self._state.variant.supports(SecurityLevel(command.p1)):
            self._end()
            raise StatusWordError(StatusWord.WRONG_P1P2)
        state, version = self._state, self._key_version
        state.set_failures(state.failures + 1)
        state.set_counter(version, state.counter(version) + 1)
        state.store.commit()
        try:
            channel.authenticate(command)
        except SecureChannelError as error:
            self._end()
            raise StatusWordError(error.status) from None
        state.set_failures(0)
        return ResponseApdu()

    def _secured(self, command: CommandApdu) -> ResponseApdu:
        """Carry out a command of the channel; what is wrong with its protection ends it.

        Raises:
            StatusWordError: 6982 no channel, or the protection is wrong. Or the command is
                refused; the channel stays.
        """
        channel = self._channel
        if channel is None or channel.state is not ChannelState.OPEN:
            self._end()
            raise StatusWordError(StatusWord.SECURITY_STATUS_NOT_SATISFIED)
        try:
            plain = channel.unwrap(command)
        except SecureChannelError:
            self._end()
            raise StatusWordError(StatusWord.SECURITY_STATUS_NOT_SATISFIED) from None
        response = self._carry_out(plain, channel)
        self._state.store.commit()
        return channel.wrap(response)  # refusals are not protected

    def _carry_out(self, command: CommandApdu, channel: CardChannel) -> ResponseApdu:
        if command.ins == Ins.GET_DATA:
            return self._data.get(command)
        self._check_alive()
        if not command.cla & CLASS:
            raise StatusWordError(StatusWord.CLA_NOT_SUPPORTED)
        return self._content.process(command, channel)

    def _check_alive(self) -> None:
        if self._management.card_state == CardLifeCycle.TERMINATED:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)

    def _end(self) -> None:
        self._content.abort()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
