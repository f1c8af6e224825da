# SPDX-License-Identifier: Apache-2.0
"""How ``iose card`` shows what is on a card, what it says of itself, and what will be done."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TextIO

from iose.cli.output import harmless
from iose.client.card.information import CardInformation
from iose.client.card.inventory import CardInventory, state_words
from iose.client.card.plan import Plan
from iose.globalplatform.data_objects import StatusEntry
from iose.globalplatform.life_cycle import NO_PRIVILEGES, Privilege
from iose.globalplatform.put_key import KeyTypeCode

CONTENT_COLUMNS: Final = ("kind", "AID", "name", "state", "privileges", "from, or applets")
CLEAR_LINE: Final = "\r\x1b[K"


def content_rows(inventory: CardInventory, names: Mapping[str, str]) -> Iterator[Sequence[str]]:
    """Yield what is on a card as rows of ``CONTENT_COLUMNS``."""
    for item in content_document(inventory, names)["contents"]:
        more = [item["load_file"]] if item["load_file"] else item["modules"]
        privileges = ", ".join(item["privileges"])
        yield (
            item["kind"], item["aid"], item["name"], item["state"], privileges, ", ".join(more),
        )  # fmt: skip


def content_document(inventory: CardInventory, names: Mapping[str, str]) -> dict[str, Any]:
    """Return what is on a card as a JSON document."""
    state = inventory.card_state
    domain: dict[str, Any] = {
        "kind": "issuer domain",
        "aid": str(inventory.issuer_domain),
        "name": "",
        "state": "unknown" if state is None else state_words(state, is_card=True),
        "privileges": [],
        "load_file": None,
        "modules": [],
        "version": None,
    }
    contents = [domain]
    contents += [_item(entry, "application", names) for entry in inventory.applications]
    contents += [_item(entry, "load file", names) for entry in inventory.load_files]
    return {"contents": contents}


def _item(entry: StatusEntry, kind: str, names: Mapping[str, str]) -> dict[str, Any]:
    privileges = entry.privileges or NO_PRIVILEGES
    is_domain = bool(privileges & Privilege.SECURITY_DOMAIN)
    if kind == "load file":
        state = "loaded" if entry.state == 1 else state_words(entry.state)
    else:
        state = state_words(entry.state)
    known = names.get(str(entry.aid)) or names.get(str(entry.load_file), "")
    return {
        "kind": "security domain" if is_domain else kind,
        "aid": str(entry.aid),
        "name": known,
        "state": state,
        "privileges": [name.replace("_", " ") for name in privileges.names],
        "load_file": None if entry.load_file is None else str(entry.load_file),
        "modules": [str(aid) for aid in entry.modules],
        "version": ".".join(str(number) for number in entry.version) or None,
    }


def information_document(information: CardInformation) -> dict[str, Any]:
    """Return what a card says of itself as a JSON document."""
    data, capabilities = information.data, information.capabilities
    issuer, card = information.issuer_number, information.card_number
    keys = [
        {
            "version": f"{key.version:02X}",
            "id": key.key_id,
            "type": [_key_type(code) for code, _ in key.components],
            "bits": [8 * size for _, size in key.components],
        }
        for key in information.keys
    ]
    return {
        "production": information.production or None,
        "issuer_number": None if issuer is None else issuer.hex().upper(),
        "card_number": None if card is None else card.hex().upper(),
        "globalplatform": None if data is None else ".".join(str(one) for one in data.version),
        "protocols": [str(variant) for variant in information.protocols],
        "keys": keys,
        "sequence_counter": information.sequence_counter,
        "application_privileges": []
        if capabilities is None
        else [name.replace("_", " ") for name in capabilities.application_privileges.names],
    }


def information_rows(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the document as rows of a name and a value; what a card does not say is left out."""
    for name, value in (document["production"] or {}).items():
        if value.strip("0"):
            yield name.replace("_", " "), value
    for name in ("issuer_number", "card_number", "globalplatform", "sequence_counter"):
        if document[name] is not None:
            yield name.replace("_", " "), str(document[name])
    for name in ("protocols", "application_privileges"):
        if document[name]:
            yield name.replace("_", " "), ", ".join(document[name])
    for key in document["keys"]:
        parts = zip(key["type"], key["bits"], strict=True)
        kind = ", ".join(f"{cipher} {bits}" for cipher, bits in parts)
        yield f"key {key['version']}/{key['id']}", kind


def _key_type(code: int) -> str:
    match code:
        case KeyTypeCode.AES:
            return "AES"
        case KeyTypeCode.DES | 0x81 | 0x82 | 0x83:  # modes of older cards
            return "DES"
        case _:
            return f"type {code:02X}"


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return a plan as a JSON document."""
    steps = [{"step": step.words, "apdus": step.apdus, "bytes": step.size} for step in plan.steps]
    return {
        "title": plan.title,
        "steps": steps,
        "notes": list(plan.notes),
        "apdus": plan.apdus,
        "bytes": plan.size,
    }


def print_plan(plan: Plan, file: TextIO) -> None:
    """Print a plan in words."""
    print(f"{plan.title}:", file=file)
    for note in plan.notes:
        print(f"  found: {harmless(note)}", file=file)
    for number, step in enumerate(plan.steps, start=1):
        cost = f" ({_count(step.apdus)}, {step.size} bytes)" if step.apdus else ""
        print(f"  {number}. {harmless(step.words)}{cost}", file=file)
    if plan.steps:
        print(f"  in all {_count(plan.apdus)}, {plan.size} bytes", file=file)
    else:
        print("  nothing to do", file=file)


def _count(apdus: int) -> str:
    return "1 APDU" if apdus == 1 else f"{apdus} APDUs"


class ProgressLine:
    """One line on the terminal that says how far a plan is; nothing elsewhere."""

    def __init__(self, plan: Plan) -> None:
        self._total = plan.apdus
        self._is_shown = sys.stderr.isatty()

    def __call__(self, done: int, words: str) -> None:
        """Show that ``done`` commands were carried out and what is being done."""
        if self._is_shown:
            text = f"{CLEAR_LINE}{done}/{self._total} {harmless(words)}" if words else CLEAR_LINE
            print(text, end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave nothing behind."""
        self(0, "")
