# SPDX-License-Identifier: Apache-2.0
"""What an element's owner may do with it, carried out in the host that has it.

Every operation ends with the element's store closed and its record told. An export *moves* the
element: it is marked first, and an element under way in or out is used by nobody, so that a
power cut never leaves two usable ones. Secrets leave here over the owner's channel alone.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from iose.crypto.base import Rng
from iose.crypto.passphrase import ScryptParameters
from iose.runtime.channel import Arguments, Result, read_int, read_list, read_text
from iose.runtime.elements.archive import PassphraseKey
from iose.runtime.elements.names import check_unique_sen
from iose.runtime.elements.rack import CardMaker, OpenElement, Rack
from iose.runtime.elements.record import MARK_NAME, ElementRecord, ElementState, Mark
from iose.runtime.elements.seal import Archive, decode_archive, encode_archive
from iose.runtime.elements.shelf import ElementStore, StoreShelf
from iose.runtime.errors import ConfigurationError
from iose.wire.errors import IoseError

MOVE_HINT = (
    "run the same 'iose element export' or 'import' again to finish, or 'export --abandon' to keep "
    "the element here, marked as a copy"
)


@dataclass(frozen=True, slots=True)
class ElementPlan:
    """What a new element is to be.

    Attributes:
        sen: Its SEN.
        wire: Setting: manners on the wire.
        limits: Setting: sizes of buffers.
        commands: Setting: command set.
        has_demo_keys: Whether it gets the published keys and PINs instead of random ones.
        seid: Its SEID.
        scp: Secure channel protocol of its security domain, 2 or 3.
        scp_i: That protocol's parameter i.
    """

    sen: str
    wire: str = "hardened"
    limits: str = "wide"
    commands: str = "iose"
    has_demo_keys: bool = False
    seid: str = ""
    scp: int = 3
    scp_i: int = 0x70


class ElementMaker(CardMaker, Protocol):
    """What the owner needs of the card besides."""

    def personalise(self, store: ElementStore, plan: ElementPlan) -> None:
        """Make a new element of an empty store.

        Raises:
            IoseError: The plan is refused, or the disk is full.
        """

    def read_secrets(self, objects: Mapping[str, bytes]) -> dict[str, object]:
        """Return keys and PINs by name; ``psk`` and ``psk_identity`` unless it has no SEN."""

    def rename(self, objects: Mapping[str, bytes], sen: str) -> dict[str, bytes | None]:
        """Return the changes that give an element another SEN."""

    def unlock(self, objects: Mapping[str, bytes]) -> dict[str, bytes | None]:
        """Return the changes that give back every try of PINs and PSK change."""


class Owner:
    """The owner's operations on the elements of one rack."""

    def __init__(self, rack: Rack, shelf: StoreShelf, maker: ElementMaker, rng: Rng) -> None:
        self._rack = rack
        self._shelf = shelf
        self._maker = maker
        self._rng = rng
        self._operations: dict[str, Callable[[Arguments], Result]] = {
            "create": self._create,
            "keys": self._keys,
            "secrets": self._secrets,
            "secrets.given": self._note_given,
            "rename": self._rename,
            "unlock": self._unlock,
            "delete": self._delete,
            "export": self._export,
            "export.finish": self._finish_export,
            "export.cancel": self._cancel_export,
            "export.abandon": self._abandon_export,
            "import": self._import,
            "import.check": self._check_import,
            "import.finish": self._finish_import,
        }

    async def handle(self, op: str, arguments: Arguments) -> Result:
        """Carry one operation out and return its result.

        Raises:
            ConfigurationError: It is refused; nothing is changed.
            IoseError: It failed; nothing is half-done.
        """
        operation = self._operations.get(op)
        if operation is None:
            raise ConfigurationError(f"unknown operation {op!r}")
        return operation(arguments)

    def _create(self, arguments: Arguments) -> Result:
        seid = read_text(arguments, "seid")
        plan = ElementPlan(
            read_text(arguments, "sen"),
            read_text(arguments, "wire"),
            read_text(arguments, "limits"),
            read_text(arguments, "commands"),
            arguments.get("demo_keys") is True,
            seid,
            read_int(arguments, "scp"),
            read_int(arguments, "scp_i"),
        )
        with self._shelf.create(seid) as store:
            self._maker.personalise(store, plan)
        return self._adopted(seid)

    def _keys(self, arguments: Arguments) -> Result:
        keys = {}
        for seid in map(str, read_list(arguments, "seids")):
            try:
                keys[seid] = self._maker.read_secrets(self._rack.visit(seid).load())
                self._rack.settle(seid)
            except IoseError as error:
                self._rack.mark_broken(seid, error)
        return {"keys": keys}

    def _secrets(self, arguments: Arguments) -> Result:
        element, mark = self._visit(arguments)
        if mark.has_given_secrets and arguments.get("again") is not True:
            raise ConfigurationError(
                f"the secrets of {element.seid} were handed out before",
                hint="use that file, or ask with --again",
            )
        secrets = self._maker.read_secrets(element.load())
        return {"secrets": secrets, **self._settled(element.seid)}

    def _note_given(self, arguments: Arguments) -> Result:
        element, mark = self._visit(arguments)
        return self._marked(element, replace(mark, has_given_secrets=True))

    def _rename(self, arguments: Arguments) -> Result:
        element, _ = self._visit(arguments)
        element.write(self._maker.rename(element.load(), read_text(arguments, "sen")))
        return self._settled(element.seid)

    def _unlock(self, arguments: Arguments) -> Result:
        element, _ = self._visit(arguments)
        if changes := self._maker.unlock(element.load()):
            element.write(changes)
        return self._settled(element.seid)

    def _delete(self, arguments: Arguments) -> Result:
        seid = read_text(arguments, "seid")
        self._check_idle(seid)
        return self._removed(seid)

    def _export(self, arguments: Arguments) -> Result:
        element, mark = self._visit(arguments, unsettled=ElementState.EXPORTING)
        file, is_copy = read_text(arguments, "file"), arguments.get("copy") is True
        if mark.state is ElementState.EXPORTING:
            if is_copy or file != mark.file:
                raise ConfigurationError(
                    f"{element.seid} is on its way to {mark.file}", hint=MOVE_HINT
                )
            export_id = mark.export_id
        else:
            export_id = read_text(arguments, "export_id")
        travelling = replace(mark.settled, is_copy=mark.is_copy or is_copy)
        objects = {**element.load(), **travelling.objects}
        archive = Archive(element.seid, export_id, is_copy, objects)
        content = encode_archive(archive, _passphrase_key(arguments), self._rng)
        kept = travelling
        if not is_copy:
            state = ElementState.EXPORTING
            kept = replace(mark, state=state, export_id=export_id, file=file)
        archived = base64.b64encode(content).decode("ascii")
        return {"archive": archived, "export_id": export_id, **self._marked(element, kept)}

    def _finish_export(self, arguments: Arguments) -> Result:
        element, _ = self._moving(arguments, ElementState.EXPORTING)
        return self._removed(element.seid)

    def _cancel_export(self, arguments: Arguments) -> Result:
        element, mark = self._moving(arguments, ElementState.EXPORTING)
        return self._marked(element, mark.settled)

    def _abandon_export(self, arguments: Arguments) -> Result:
        element, mark = self._visit(arguments, unsettled=ElementState.EXPORTING)
        if mark.state is not ElementState.EXPORTING:
            raise ConfigurationError(f"{element.seid} is not being exported")
        return self._marked(element, replace(mark.settled, is_copy=True))

    def _import(self, arguments: Arguments) -> Result:
        content = base64.b64decode(read_text(arguments, "archive"))
        archive = decode_archive(content, bytes.fromhex(read_text(arguments, "key")))
        objects = dict(archive.objects)
        record = self._maker.describe(archive.seid, objects)
        taken = list(map(str, read_list(arguments, "taken")))
        for sen in record.sens:
            check_unique_sen(sen, taken)
        mark = Mark.decode(objects.get(MARK_NAME))
        if not archive.is_copy:
            file = read_text(arguments, "file")
            state = ElementState.IMPORTING
            mark = replace(mark, state=state, export_id=archive.export_id, file=file)
        with self._shelf.create(archive.seid) as store:
            store.write({**objects, **mark.objects})
        return {"copy": archive.is_copy, **self._adopted(archive.seid)}

    def _check_import(self, arguments: Arguments) -> Result:
        element, _ = self._moving(arguments, ElementState.IMPORTING)
        return self._settled(element.seid)

    def _finish_import(self, arguments: Arguments) -> Result:
        element, mark = self._moving(arguments, ElementState.IMPORTING)
        return self._marked(element, mark.settled)

    def _visit(
        self, arguments: Arguments, *, unsettled: ElementState = ElementState.READY
    ) -> tuple[OpenElement, Mark]:
        seid = read_text(arguments, "seid")
        self._check_idle(seid)
        element = self._rack.visit(seid)
        mark = Mark.decode(element.load().get(MARK_NAME))
        if mark.state not in (ElementState.READY, unsettled):
            raise ConfigurationError(f"{seid} is {mark.state.value}", hint=MOVE_HINT)
        return element, mark

    def _moving(self, arguments: Arguments, state: ElementState) -> tuple[OpenElement, Mark]:
        element, mark = self._visit(arguments, unsettled=state)
        is_same = arguments.get("export_id") == mark.export_id or (
            state is ElementState.IMPORTING and arguments.get("file") == mark.file
        )
        if mark.state is not state or not is_same:
            raise ConfigurationError(f"{element.seid} is not {state.value} under that number")
        return element, mark

    def _check_idle(self, seid: str) -> None:
        if seid not in self._rack.records:
            raise ConfigurationError(f"there is no element {seid}")
        if self._rack.is_in_use(seid):
            raise ConfigurationError(
                f"{seid} is in use by a session", hint="try again when it has ended"
            )

    def _marked(self, element: OpenElement, mark: Mark) -> Result:
        element.write(mark.objects)
        return self._settled(element.seid)

    def _removed(self, seid: str) -> Result:
        self._rack.settle(seid)
        self._shelf.delete(seid)
        self._rack.forget(seid)
        return {}

    def _adopted(self, seid: str) -> Result:
        self._rack.adopt([ElementRecord(seid)])
        return self._settled(seid)

    def _settled(self, seid: str) -> Result:
        return {"element": self._rack.settle(seid).to_json()}


def _passphrase_key(arguments: Arguments) -> PassphraseKey:
    salt = bytes.fromhex(read_text(arguments, "salt"))
    parameters = ScryptParameters(salt, read_int(arguments, "cost_log2"))
    return PassphraseKey(bytes.fromhex(read_text(arguments, "key")), parameters)
