# SPDX-License-Identifier: Apache-2.0
"""What a node knows of an element without opening it, and the owner's mark inside the element.

Records are cached in the folder's index, so that a thousand elements start without a thousand
database files being read. The mark lives in the element's own store: it moves with the element.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Final

from iose.protocols.host_frames import ElementInstance
from iose.runtime.channel import Result, read_int, read_list, read_object, read_text
from iose.wire.errors import StoreError

MARK_NAME: Final = "owner/mark"
COPY_NAME: Final = "card/copy"  # the mark of a copy, where the card itself reads it
DEFAULT_CHUNK_SIZE: Final = 255  # a short command's data


class ElementState(Enum):
    """Whether an element may be used."""

    READY = "ready"
    EXPORTING = "exporting"
    IMPORTING = "importing"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Mark:
    """The owner's notes on one element.

    Attributes:
        state: Whether it may be used.
        is_copy: Whether another element may have the same keys.
        has_given_secrets: Whether its secrets were handed to its owner.
        export_id: Random name of the unfinished move, or "".
        file: The file of the unfinished move, or "".
    """

    state: ElementState = ElementState.READY
    is_copy: bool = False
    has_given_secrets: bool = False
    export_id: str = ""
    file: str = ""

    def encode(self) -> bytes:
        """Return the object's bytes."""
        return json.dumps({**asdict(self), "state": self.state.value}).encode()

    @classmethod
    def decode(cls, data: bytes | None) -> "Mark":
        """Return the mark that ``encode`` made; a fresh one when there is none.

        Raises:
            StoreError: It is not one: something else wrote in the store.
        """
        if data is None:
            return cls()
        try:
            fields = json.loads(data)
            return cls(**{**fields, "state": ElementState(fields["state"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            raise StoreError("the owner's mark on the element is damaged") from None

    @property
    def objects(self) -> dict[str, bytes]:
        """The objects that hold it: one for us and, of a copy, one for the card."""
        copy = {COPY_NAME: b"\x01"} if self.is_copy else {}
        return {MARK_NAME: self.encode(), **copy}

    @property
    def settled(self) -> "Mark":
        """The mark of an element whose move is over."""
        return replace(self, state=ElementState.READY, export_id="", file="")


@dataclass(frozen=True, slots=True)
class ElementRecord:
    """One element, as the index and the owner's lists show it.

    Attributes:
        seid: Its SEID.
        sen: Its SEN, "" when it has none.
        atr: Its answer to reset.
        wire: Setting: manners on the wire.
        limits: Setting: sizes of buffers.
        commands: Setting: command set.
        chunk_size: Largest command data it takes, in bytes.
        max_record: Largest TLS record it takes, in bytes; 0 for no limit.
        state: Whether it may be used.
        is_copy: Whether another element may have the same keys.
        instances: More TLS servers on it that can be selected.
        stamp: When its file last changed, in ns; 0 while that is not known.
    """

    seid: str
    sen: str = ""
    atr: bytes = b""
    wire: str = ""
    limits: str = ""
    commands: str = ""
    chunk_size: int = DEFAULT_CHUNK_SIZE
    max_record: int = 0
    state: ElementState = ElementState.READY
    is_copy: bool = False
    instances: tuple[ElementInstance, ...] = ()
    stamp: int = 0

    @property
    def is_known(self) -> bool:
        """Whether the record was read from the element, not just made for its file name."""
        return self.stamp != 0

    @property
    def sens(self) -> tuple[str, ...]:
        """Its names on the service plane: its own and those of its instances."""
        return tuple(filter(None, (self.sen, *(instance.sen for instance in self.instances))))

    def to_json(self) -> dict[str, object]:
        """Return the record for the index and for other processes of ours."""
        return {
            "seid": self.seid,
            "sen": self.sen,
            "atr": self.atr.hex(),
            "wire": self.wire,
            "limits": self.limits,
            "commands": self.commands,
            "chunk_size": self.chunk_size,
            "max_record": self.max_record,
            "state": self.state.value,
            "copy": self.is_copy,
            "instances": [
                {"sen": instance.sen, "aid": instance.aid.hex().upper()}
                for instance in self.instances
            ],
            "stamp": self.stamp,
        }

    @classmethod
    def from_json(cls, source: Result) -> "ElementRecord":
        """Return the record that ``to_json`` made.

        Raises:
            ControlError: A field is missing, or of another type.
            ValueError: A field has no such value.
        """
        return cls(
            seid=read_text(source, "seid"),
            sen=read_text(source, "sen"),
            atr=bytes.fromhex(read_text(source, "atr")),
            wire=read_text(source, "wire"),
            limits=read_text(source, "limits"),
            commands=read_text(source, "commands"),
            chunk_size=read_int(source, "chunk_size"),
            max_record=read_int(source, "max_record"),
            state=ElementState(read_text(source, "state")),
            is_copy=source.get("copy") is True,
            instances=tuple(map(_instance, read_list({"instances": [], **source}, "instances"))),
            stamp=read_int(source, "stamp"),
        )


def _instance(item: object) -> ElementInstance:
    source = read_object(item)
    return ElementInstance(read_text(source, "sen"), bytes.fromhex(read_text(source, "aid")))


def public_view(record: ElementRecord, repeated: Collection[str]) -> Mapping[str, object]:
    """Return the record as ``--json`` shows it: stable field names, nothing of our cache.

    Args:
        record: The record.
        repeated: Names, in lower case, that more than one TLS server of the folder has.
    """
    view = record.to_json()
    del view["stamp"]
    view["repeated_sens"] = [name for name in record.sens if name.lower() in repeated]
    return view
