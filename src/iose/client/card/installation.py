# SPDX-License-Identifier: Apache-2.0
"""The plan to load a package and make an instance of its applet (GPCS 2.3.1 §11.5, §11.6).

An instance that is personalised becomes selectable last: one that can be selected is finished,
and whatever an interrupted run left behind can be told from what the card lists.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from iose.client.card.changes import release_default
from iose.client.card.errors import CardManagementError
from iose.client.card.inventory import CardInventory
from iose.client.card.plan import Plan, Step
from iose.globalplatform.commands import BLOCK_LIMIT, Delete, load_blocks, store_blocks
from iose.globalplatform.data_objects import StatusEntry
from iose.globalplatform.install import (
    InstallForInstall,
    InstallForLoad,
    InstallForPersonalization,
    MakeSelectable,
)
from iose.globalplatform.life_cycle import NO_PRIVILEGES, ApplicationLifeCycle, Privilege
from iose.globalplatform.load_file import LoadFile
from iose.iso7816.aid import Aid
from iose.iso7816.status import StatusWord

PERSONALISED_BEFORE: Final = frozenset({StatusWord.CONDITIONS_NOT_SATISFIED})


@dataclass(frozen=True, slots=True)
class PersonalisationData:
    """What an instance is given under the secure channel before it can be selected.

    Attributes:
        data: Content of STORE DATA.
        file: Where the secrets in it are kept, to tell the administrator.
        save: Writes them there, durably; None when an earlier run did.
        discard: Removes the file again, when the card refused what they are for.
    """

    data: bytes = field(repr=False)
    file: str
    save: Callable[[], None] | None = field(default=None, repr=False)
    discard: Callable[[], None] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class InstallationRequest:
    """What is to be on the card in the end.

    Attributes:
        load_file: The package.
        module: AID of the applet in it.
        aid: AID of the instance.
        name: Of the package, for the administrator.
        privileges: What the instance may do.
        parameters: For the applet's install method.
        personalisation: What it is given then; None for nothing.
    """

    load_file: LoadFile
    module: Aid
    aid: Aid
    name: str
    privileges: Privilege = NO_PRIVILEGES
    parameters: bytes = field(default=b"", repr=False)
    personalisation: PersonalisationData | None = None


def plan_installation(
    inventory: CardInventory, request: InstallationRequest, block_size: int
) -> Plan:
    """Return the plan that leads from what is on the card to what is asked for.

    Args:
        inventory: What is on the card.
        request: What is to be there.
        block_size: Data that one command takes.

    Raises:
        CardManagementError: Something else is in the way, or the package is too large.
    """
    title = f"install {request.name} as {request.aid}"
    found = inventory.application(request.aid)
    if found is not None and not _is_unfinished(found, request):
        return Plan(title, notes=_finished(found, request))
    steps: list[Step] = []
    notes: list[str] = []
    if _is_loaded(inventory, request):
        notes.append(f"the package {request.load_file.package_aid} is on the card already")
    else:
        steps.append(_load(inventory, request, block_size))
    if request.privileges & Privilege.DEFAULT_SELECTED:
        steps += release_default(inventory, request.aid)
    if request.personalisation is not None:
        steps += _save(request.personalisation)
    if found is not None:
        notes.append(f"{request.aid} is there, but not selectable: an earlier run was cut")
    else:
        steps.append(_install(request))
    if request.personalisation is not None:
        steps += _personalise(request.aid, request.personalisation, block_size)
    if found is not None or request.personalisation is not None:
        command = MakeSelectable(request.aid, request.privileges & Privilege.DEFAULT_SELECTED)
        steps.append(Step(f"make {request.aid} selectable", commands=(command.to_command(),)))
    return Plan(title, tuple(steps), tuple(notes))


def _finished(found: StatusEntry, request: InstallationRequest) -> tuple[str, ...]:
    note = f"{found.aid} is installed already"
    held = found.privileges or NO_PRIVILEGES
    if request.privileges & ~held & Privilege.DEFAULT_SELECTED:
        return (note, "a reset does not select it: 'iose card default' changes that")
    return (note,)


def _is_unfinished(found: StatusEntry, request: InstallationRequest) -> bool:
    """Return whether an instance still has to be finished.

    Raises:
        CardManagementError: It is finished, or another, and cannot be what is asked for.
    """
    if found.load_file not in {None, request.load_file.package_aid}:
        raise CardManagementError(
            f"{found.aid} is an application of another package, {found.load_file}",
            hint="choose another AID with --aid",
        )
    if found.state == ApplicationLifeCycle.INSTALLED:
        return True
    given = request.personalisation
    if given is not None and given.save is not None:
        raise CardManagementError(
            f"{found.aid} is on the card already, with secrets that are not in {given.file}",
            hint="choose another AID with --aid, or delete it first: its keys are then lost",
        )
    return False


def _is_loaded(inventory: CardInventory, request: InstallationRequest) -> bool:
    """Return whether the package is on the card.

    Raises:
        CardManagementError: Another version of it is.
    """
    aid = request.load_file.package_aid
    loaded = inventory.load_file(aid)
    if loaded is None:
        if inventory.application(aid) is not None:
            raise CardManagementError(f"an application has the AID {aid} of the package")
        return False
    if loaded.version and loaded.version != bytes(request.load_file.version):
        held = ".".join(str(number) for number in loaded.version)
        wanted = ".".join(str(number) for number in request.load_file.version)
        raise CardManagementError(
            f"the card holds version {held} of the package, not {wanted}",
            hint=f"delete it first: iose card delete TARGET {aid} --related",
        )
    return True


def _load(inventory: CardInventory, request: InstallationRequest, block_size: int) -> Step:
    stream = request.load_file.stream
    count = -(-len(stream) // block_size)
    if count > BLOCK_LIMIT:
        raise CardManagementError(
            f"the package makes {count} blocks of {block_size} bytes, and a card takes "
            f"{BLOCK_LIMIT}"
        )
    aid = request.load_file.package_aid
    announce = InstallForLoad(aid, inventory.issuer_domain).to_command()
    blocks = (block.to_command() for block in load_blocks(stream, block_size))
    return Step(
        f"load the package {request.name}, {aid}, {len(stream)} bytes in {count} blocks",
        commands=(announce, *blocks),
        undo=(Delete(aid).to_command(),),
    )


def _install(request: InstallationRequest) -> Step:
    command = InstallForInstall(
        request.load_file.package_aid,
        request.module,
        request.aid,
        request.privileges,
        request.parameters,
        is_selectable=request.personalisation is None,
    ).to_command()
    words = f"make the instance {request.aid}"
    if request.privileges:
        words += f" with the privileges {', '.join(request.privileges.names)}"
    return Step(words, commands=(command,), undo=(Delete(request.aid).to_command(),))


def _save(given: PersonalisationData) -> tuple[Step, ...]:
    """Return the step before the instance is made: the file says which one a cut run began."""
    if given.save is None:
        return ()
    words = f"write its secrets to {given.file} (mode 0600)"
    return (Step(words, action=given.save, retract=given.discard),)


def _personalise(aid: Aid, given: PersonalisationData, block_size: int) -> tuple[Step, ...]:
    blocks = tuple(block.to_command() for block in store_blocks(given.data, block_size))
    announce = InstallForPersonalization(aid).to_command()
    accepted = frozenset() if given.save is not None else PERSONALISED_BEFORE
    return (
        Step(f"open {aid} for personalisation", commands=(announce,)),
        Step(
            f"give {aid} the secrets in {given.file}, encrypted", commands=blocks, accepted=accepted
        ),
    )
