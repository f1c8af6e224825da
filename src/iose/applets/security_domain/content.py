# SPDX-License-Identifier: Apache-2.0
"""Card management inside the channel: load files, instances, keys, life cycles (GPCS 2.3.1 §11).

The rules of what a card lets happen are the card's (``CardManagement``). Here is what goes over
several commands: loading, personalisation and long listings. Another command ends each of them,
and so does a refusal; nothing of them is stored before the last block.
"""

from collections.abc import Callable
from typing import Final

from iose.applet_api import CardManagement
from iose.applets.security_domain.data import DomainData
from iose.applets.security_domain.listing import Listing
from iose.applets.security_domain.sequences import Loading, Personalising
from iose.applets.security_domain.state import KEY_SET_LIMIT, DomainState
from iose.crypto.base import CryptoProvider
from iose.globalplatform.card import CardChannel
from iose.globalplatform.commands import (
    P1_OFFSET,
    P2_OFFSET,
    Delete,
    Ins,
    LoadBlock,
    SetStatus,
    StatusScope,
    StoreData,
    read_delete,
)
from iose.globalplatform.install import (
    InstallForInstall,
    InstallForLoad,
    InstallForPersonalization,
    MakeSelectable,
    RegistryUpdate,
    decode_install,
)
from iose.globalplatform.life_cycle import LOCK_BIT, CardLifeCycle
from iose.globalplatform.put_key import PutKey
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError

CONFIRMED: Final = ResponseApdu(b"\x00")  # no receipt follows (GPCS 2.3.1 §11.1.6)
WHILE_LOCKED: Final = frozenset({Ins.SET_STATUS, Ins.GET_STATUS})


class ContentCommands:
    """The commands of an open channel.

    Args:
        crypto: Primitives.
        state: Objects of the domain.
        data: What the domain says of itself.
        management: The card.
    """

    def __init__(
        self,
        crypto: CryptoProvider,
        state: DomainState,
        data: DomainData,
        management: CardManagement,
    ) -> None:
        self._data = data
        self._crypto = crypto
        self._state = state
        self._management = management
        self._loading: Loading | None = None
        self._personalising: Personalising | None = None
        self._listing: Listing | None = None
        self._commands: dict[int, Callable[[CommandApdu, CardChannel], ResponseApdu]] = {
            Ins.INSTALL: self._install,
            Ins.LOAD: self._load,
            Ins.DELETE: self._delete,
            Ins.PUT_KEY: self._put_key,
            Ins.SET_STATUS: self._set_status,
            Ins.GET_STATUS: self._get_status,
            Ins.STORE_DATA: self._store_data,
        }

    def knows(self, ins: int) -> bool:
        """Return whether an instruction is one of these."""
        return ins in self._commands

    def abort(self) -> None:
        """Forget what is under way."""
        self._loading = self._personalising = self._listing = None

    def process(self, command: CommandApdu, channel: CardChannel) -> ResponseApdu:
        """Return the answer to one command, its protection taken off.

        Raises:
            StatusWordError: It is refused.
        """
        run = self._commands.get(command.ins)
        if run is None:
            self.abort()
            raise StatusWordError(StatusWord.INS_NOT_SUPPORTED)
        try:
            self._check_state(command.ins)
            return run(command, channel)
        except DecodeError as error:
            self.abort()
            is_header = error.offset in {P1_OFFSET, P2_OFFSET}  # as the codecs say
            status = StatusWord.WRONG_P1P2 if is_header else StatusWord.WRONG_DATA
            raise StatusWordError(status) from None
        except StatusWordError:
            self.abort()
            raise

    def _check_state(self, ins: int) -> None:
        if self._management.card_state == CardLifeCycle.CARD_LOCKED and ins not in WHILE_LOCKED:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)

    def _install(self, command: CommandApdu, _channel: CardChannel) -> ResponseApdu:
        self.abort()
        match decode_install(command):
            case InstallForLoad() as request:
                self._loading = Loading(self._crypto, self._management, request)
            case InstallForInstall() as request:
                self._management.install(request)
            case MakeSelectable() as request:
                self._management.make_selectable(request.instance, request.privileges)
            case InstallForPersonalization() as request:
                receiver = self._management.receiver(request.instance)
                self._personalising = Personalising(receiver.receive_data)
            case request:
                self._update(request)
        return CONFIRMED

    def _update(self, request: RegistryUpdate) -> None:
        if request.instance is None or request.security_domain is not None:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        if request.privileges is not None:
            self._management.set_privileges(request.instance, request.privileges)

    def _load(self, command: CommandApdu, _channel: CardChannel) -> ResponseApdu:
        loading = self._loading
        if loading is None:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        package = loading.take(LoadBlock.from_command(command))
        if package is not None:
            self.abort()
            self._management.load(package)
        return CONFIRMED

    def _delete(self, command: CommandApdu, _channel: CardChannel) -> ResponseApdu:
        self.abort()
        request = read_delete(command)
        if isinstance(request, Delete):
            self._management.delete(request.aid, with_related=request.and_related)
            return CONFIRMED
        keys = self._state.keys
        if request.version is None or request.key_id is not None:
            raise StatusWordError(StatusWord.WRONG_DATA, "a key set is deleted as a whole")
        if keys.find(request.version) is None:
            raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND)
        if len(keys.sets) == 1:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, "the last key set stays")
        rest, highest = keys.without(request.version), self._state.first_counter()
        heir = rest.sets[0].version  # the highest counter there was stays on the card
        self._state.set_keys(rest)
        self._state.set_counter(request.version, 0)
        self._state.set_counter(heir, max(highest, self._state.counter(heir)))
        return CONFIRMED

    def _put_key(self, command: CommandApdu, channel: CardChannel) -> ResponseApdu:
        self.abort()
        request = PutKey.from_command(command)
        new = request.open(self._crypto, channel.decrypt_key)
        keys = self._state.keys
        if new.key_type is not self._state.variant.key_type:
            raise StatusWordError(StatusWord.WRONG_DATA, "keys of another protocol")
        if request.replaces and keys.find(request.replaces) is None:
            raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND)
        if new.version != request.replaces and keys.find(new.version) is not None:
            raise StatusWordError(StatusWord.WRONG_DATA, "that key version is there already")
        if not request.replaces and len(keys.sets) == KEY_SET_LIMIT:
            raise StatusWordError(StatusWord.NOT_ENOUGH_MEMORY)
        count = self._state.first_counter()
        if request.replaces:
            self._state.set_counter(request.replaces, 0)
        self._state.set_counter(new.version, count)
        self._state.set_keys(keys.with_set(new, request.replaces))
        return ResponseApdu(request.answer())

    def _set_status(self, command: CommandApdu, _channel: CardChannel) -> ResponseApdu:
        self.abort()
        request = SetStatus.from_command(command)
        if request.scope is StatusScope.ISSUER_DOMAIN:
            self._management.set_card_state(request.state)
        elif request.scope is StatusScope.APPLICATIONS and request.aid is not None:
            is_locked = bool(request.state & LOCK_BIT)
            self._management.set_locked(request.aid, is_locked=is_locked)
        else:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, "no domain but the issuer's")
        return ResponseApdu()

    def _get_status(self, command: CommandApdu, channel: CardChannel) -> ResponseApdu:
        listing = self._listing
        self.abort()
        listing = Listing.for_command(command, self._management, listing)
        data = listing.take(channel.max_response_data)
        if not listing.is_done:
            self._listing = listing
            return ResponseApdu(data, StatusWord.MORE_DATA_AVAILABLE)
        return ResponseApdu(data)

    def _store_data(self, command: CommandApdu, _channel: CardChannel) -> ResponseApdu:
        personalising = self._personalising
        self.abort()
        if personalising is None:
            personalising = Personalising(self._data.receive)
        if not personalising.take(StoreData.from_command(command)):
            self._personalising = personalising
        return ResponseApdu()
