# SPDX-License-Identifier: Apache-2.0
"""All software elements of a data folder, over the hosts that have them.

The supervisor of a running node holds one, and so does a short administrative command while no
node runs. It settles what needs the whole picture: which host has which element, names that must
not repeat, and the index. Secrets pass through it on their way to the owner and are not kept.
"""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from iose.crypto.base import Rng
from iose.globalplatform.channel import SCP02, SCP03, ScpVariant
from iose.runtime.channel import (
    Arguments,
    JsonChannel,
    Result,
    read_int,
    read_list,
    read_object,
    read_text,
)
from iose.runtime.elements.archive import read_archive_header
from iose.runtime.elements.names import check_sen, check_unique_sen, free_sens, new_seid
from iose.runtime.elements.record import ElementRecord, ElementState, public_view
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.folder import DataFolder, file_stamp, write_private

EXPORT_ID_SIZE: Final = 16
SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "wire": ("hardened", "compatible"),
    "limits": ("wide", "chip"),
    "commands": ("iose", "1.3", "2.18"),
}
"""What ``element create`` accepts, the default first."""


SCP_OPTIONS: Final[Mapping[int, int]] = {SCP03: 0x70, SCP02: 0x15}
"""Secure channel protocols of a security domain, and the parameter i each has by default."""

FORWARDED: Final = (
    "secrets.given",
    "unlock",
    "export.cancel",
    "export.abandon",
    "import.check",
    "import.finish",
)
"""Operations the element's host alone decides about."""


class HostPort(Protocol):
    """A host process, as far as the depot is concerned."""

    @property
    def channel(self) -> JsonChannel:
        """The channel to it.

        Raises:
            ControlError: It is down at the moment.
        """


async def change_nothing() -> None:
    """Do nothing: the listener of a depot that serves no node."""


@dataclass(frozen=True, slots=True)
class ElementAccess:
    """How a TLS client reaches an element; it holds the PSK."""

    seid: str
    sen: str
    psk: str
    psk_identity: str


class Depot:
    """The elements of a folder, for their owner.

    Args:
        folder: The folder, locked by this process.
        host_count: Hosts that share the elements.
        rng: Source of SEIDs and export numbers.
        on_change: Awaited after each change, so that a node looks again.
    """

    def __init__(
        self,
        folder: DataFolder,
        host_count: int,
        rng: Rng,
        *,
        on_change: Callable[[], Awaitable[None]] = change_nothing,
    ) -> None:
        self.records: dict[str, ElementRecord] = {}
        self._folder = folder
        self._rng = rng
        self._on_change = on_change
        self._hosts: Sequence[HostPort] = ()
        self._shares: list[set[str]] = [set() for _ in range(host_count)]
        self._turn = asyncio.Lock()
        self._saved: bytes = b""
        self._operations: dict[str, Callable[[Arguments], Awaitable[Result]]] = {
            "element.list": self._list,
            "element.show": self._show,
            "element.create": self._create,
            "element.rename": self._rename,
            "element.import": self._import,
            "element.secrets": self._secrets,
            "element.export": self._export,
            "element.delete": self._delete,
            "element.export.finish": self._delete_moved,
        }
        for op in FORWARDED:
            self._operations[f"element.{op}"] = self._forwarder(op)

    def load(self) -> None:
        """Read the index, look what is in the folder, and share the elements out to hosts."""
        cached = {record.seid: record for record in self._read_index()}
        for seid in self._folder.seids():
            self.records[seid] = cached.get(seid, ElementRecord(seid))
            self._smallest_share().add(seid)

    def attach(self, hosts: Sequence[HostPort]) -> None:
        """Use these hosts, as many as were announced."""
        self._hosts = hosts

    def share(self, number: int) -> list[dict[str, object]]:
        """Return the records that host ``number`` has to adopt when it starts.

        A host that starts again after a kill may find a store newer than its record, or gone.
        """
        adopted = []
        for seid in sorted(self._shares[number]):
            path = self._folder.store(seid)
            if not path.exists():
                self._forget(seid)
                continue
            record = self.records[seid]
            is_fresh = record.stamp == file_stamp(path)
            adopted.append((record if is_fresh else replace(record, stamp=0)).to_json())
        return adopted

    def take(self, records: Iterable[object]) -> bool:
        """Take over what a host says of its elements; return whether a node must look again."""
        is_news = False
        for item in records:
            record = ElementRecord.from_json(read_object(item))
            known = self.records.get(record.seid)
            if known is not None:
                self.records[record.seid] = record
                is_news |= replace(known, stamp=0) != replace(record, stamp=0)
        return is_news

    def sorted_records(self) -> list[ElementRecord]:
        """Return the elements in the order of their names."""
        return sorted(self.records.values(), key=lambda record: _natural(record.sen))

    def save(self) -> None:
        """Write the index; it is a cache, so that a full disk is no error."""
        content = json.dumps([record.to_json() for record in self.records.values()]).encode()
        if content == self._saved:
            return
        try:
            write_private(self._folder.index, content)
            self._saved = content
        except OSError:
            with suppress(OSError):
                self._folder.index.unlink()

    def repeated_sens(self) -> list[str]:
        """Return names that more than one usable element has: an administrator renamed one."""
        usable = [r for r in self.records.values() if r.state is ElementState.READY]
        names = Counter(name.lower() for record in usable for name in record.sens)
        return sorted(name for name, number in names.items() if number > 1)

    async def handle(self, op: str, arguments: Arguments) -> Result:
        """Carry out one operation of the owner, one at a time.

        Raises:
            ConfigurationError: It is unknown or refused; nothing is changed.
            ControlError: A host is down or failed.
        """
        operation = self._operations.get(op)
        if operation is None:
            raise ConfigurationError(f"unknown operation {op!r}")
        async with self._turn:
            return await operation(arguments)

    async def fill(self, count: int) -> list[ElementRecord]:
        """Make default elements until there are ``count``, and return the new ones.

        Raises:
            IoseError: One could not be made; those made before stay.
        """
        async with self._turn:
            names = free_sens(self._taken(), max(count - len(self.records), 0))
            defaults = {name: choices[0] for name, choices in SETTINGS.items()}
            jobs = (self._make({"sen": sen, **defaults, **_scp({})}) for sen in names)
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        made = [outcome for outcome in outcomes if isinstance(outcome, ElementRecord)]
        if made:
            self.save()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return made

    async def access(self) -> list[ElementAccess]:
        """Return how each usable element is reached, in the order of their names.

        Raises:
            IoseError: A host is down.
        """
        answers = await asyncio.gather(
            *(
                host.channel.request("keys", {"seids": list(filter(self._is_ready, sorted(share)))})
                for host, share in zip(self._hosts, self._shares, strict=True)
            )
        )
        found = []
        for answer in answers:
            for seid, keys in read_object(answer["keys"]).items():
                secrets = read_object(keys)
                if "psk" not in secrets:
                    continue  # its owner removed the TLS server
                psk, identity = read_text(secrets, "psk"), read_text(secrets, "psk_identity")
                found.append(ElementAccess(seid, self.records[seid].sen, psk, identity))
        return sorted(found, key=lambda access: _natural(access.sen))

    async def _list(self, _arguments: Arguments) -> Result:
        repeated = self.repeated_sens()
        return {"elements": [public_view(one, repeated) for one in self.sorted_records()]}

    async def _show(self, arguments: Arguments) -> Result:
        return {"element": self._view(self._find(arguments))}

    async def _create(self, arguments: Arguments) -> Result:
        sen = arguments.get("sen") or free_sens(self._taken(), 1)[0]
        plan = {"sen": sen, "demo_keys": arguments.get("demo_keys") is True, **_scp(arguments)}
        for name, choices in SETTINGS.items():
            plan[name] = arguments.get(name) or choices[0]
            if plan[name] not in choices:
                raise ConfigurationError(f"{name} is one of {', '.join(choices)}")
        check_sen(read_text(plan, "sen"))
        check_unique_sen(read_text(plan, "sen"), self._taken())
        return await self._changed(await self._make(plan))

    async def _make(self, plan: Result) -> ElementRecord:
        seid = new_seid(self._rng, self.records)
        return await self._settle_new(seid, "create", {"seid": seid, **plan})

    async def _settle_new(self, seid: str, op: str, arguments: Arguments) -> ElementRecord:
        share = self._smallest_share()
        share.add(seid)
        self.records[seid] = ElementRecord(seid)
        try:
            host = self._hosts[self._shares.index(share)]
            answer = await host.channel.request(op, arguments)
        except BaseException:
            if not self._folder.store(seid).exists():  # else the host died just after making it
                self._forget(seid)
            raise
        self.take([answer["element"]])
        return self.records[seid]

    async def _rename(self, arguments: Arguments) -> Result:
        record, sen = self._find(arguments), read_text(arguments, "sen")
        check_sen(sen)
        check_unique_sen(sen, self._taken() - {record.sen})
        return await self._forward("rename", record, arguments)

    async def _secrets(self, arguments: Arguments) -> Result:
        record = self._find(arguments)
        answer = await self._ask("secrets", record, arguments)
        return {"element": self._view(record), "secrets": answer["secrets"]}

    async def _export(self, arguments: Arguments) -> Result:
        record = self._find(arguments)
        export_id = self._rng.random_bytes(EXPORT_ID_SIZE).hex()
        answer = await self._ask("export", record, {**arguments, "export_id": export_id})
        self.take([answer["element"]])
        view = await self._changed(self.records[record.seid])
        return {**view, "archive": answer["archive"], "export_id": answer["export_id"]}

    async def _delete(self, arguments: Arguments) -> Result:
        return await self._remove("delete", arguments)

    async def _delete_moved(self, arguments: Arguments) -> Result:
        return await self._remove("export.finish", arguments)

    async def _remove(self, op: str, arguments: Arguments) -> Result:
        record = self._find(arguments)
        await self._ask(op, record, arguments)
        self._forget(record.seid)
        return await self._changed(record)

    async def _import(self, arguments: Arguments) -> Result:
        seid = _archived_seid(arguments)
        if seid in self.records:
            raise ConfigurationError(
                f"there is an element {seid} already",
                hint="an element can be on a node once; see 'iose element show'",
            )
        taken = sorted(self._taken())
        record = await self._settle_new(seid, "import", {**arguments, "taken": taken})
        return await self._changed(record)

    def _forwarder(self, op: str) -> Callable[[Arguments], Awaitable[Result]]:
        async def forward(arguments: Arguments) -> Result:
            return await self._forward(op, self._find(arguments), arguments)

        return forward

    async def _forward(self, op: str, record: ElementRecord, arguments: Arguments) -> Result:
        answer = await self._ask(op, record, arguments)
        self.take([answer["element"]])
        return await self._changed(self.records[record.seid])

    async def _ask(self, op: str, record: ElementRecord, arguments: Arguments) -> Result:
        number = next(n for n, share in enumerate(self._shares) if record.seid in share)
        return await self._hosts[number].channel.request(op, {**arguments, "seid": record.seid})

    async def _changed(self, record: ElementRecord) -> Result:
        self.save()
        await self._on_change()
        return {"element": self._view(record)}

    def _find(self, arguments: Arguments) -> ElementRecord:
        name = read_text(arguments, "element")
        if name in self.records:  # first: an element can be named like the SEID of another one
            return self.records[name]
        named = [one for one in self.records.values() if one.sen.lower() == name.lower() != ""]
        if len(named) > 1:
            raise ConfigurationError(
                f"{len(named)} elements are named {name!r}",
                hint="give the SEID of the one you mean",
            )
        if not named:
            raise ConfigurationError(
                f"there is no element {name!r}", hint="'iose element list' shows what there is"
            )
        return named[0]

    def _view(self, record: ElementRecord) -> Mapping[str, object]:
        return public_view(record, self.repeated_sens())

    def _taken(self) -> set[str]:
        return {name for record in self.records.values() for name in record.sens}

    def _is_ready(self, seid: str) -> bool:
        return self.records[seid].state is ElementState.READY

    def _forget(self, seid: str) -> None:
        del self.records[seid]
        for share in self._shares:
            share.discard(seid)

    def _smallest_share(self) -> set[str]:
        return min(self._shares, key=len)

    def _read_index(self) -> list[ElementRecord]:
        try:
            self._saved = self._folder.index.read_bytes()
            items = read_list({"index": json.loads(self._saved)}, "index")
            return [ElementRecord.from_json(read_object(item)) for item in items]
        except (OSError, ValueError, RecursionError, ControlError):
            return []  # a cache: what it should say is read from the elements


def _archived_seid(arguments: Arguments) -> str:
    content = base64.b64decode(read_text(arguments, "archive"))
    return read_archive_header(content).seid


def _scp(arguments: Arguments) -> dict[str, object]:
    """Return the secure channel protocol that a new element is to have.

    Raises:
        ConfigurationError: There is none like that.
    """
    scp = read_int({"scp": SCP03, **arguments}, "scp")
    scp_i = read_int({"scp_i": SCP_OPTIONS.get(scp, 0), **arguments}, "scp_i")
    if not ScpVariant(scp, scp_i).is_supported:
        raise ConfigurationError(
            f"a security domain cannot have SCP{scp:02X} with i={scp_i:02X}",
            hint="SCP03 has i=70, 60 or 00, and 1 more with 16-byte challenges; SCP02 15 or 55",
        )
    return {"scp": scp, "scp_i": scp_i}


def _natural(name: str) -> tuple[str, int, str]:
    """Return a sort key that puts key2.com before key10.com."""
    stem = name.split(".", maxsplit=1)[0]
    letters = stem.rstrip("0123456789")
    return (letters, int(stem[len(letters) :] or 0), name)
