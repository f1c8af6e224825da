# SPDX-License-Identifier: Apache-2.0
"""Plans to delete, lock, unlock, and to choose what a reset selects (GPCS 2.3.1 §11.2, §11.10).

What is as it should be already makes an empty plan.
"""

from iose.client.card.errors import CardManagementError
from iose.client.card.inventory import CardInventory
from iose.client.card.plan import Plan, Step
from iose.globalplatform.commands import Delete, SetStatus, StatusScope
from iose.globalplatform.data_objects import StatusEntry
from iose.globalplatform.install import RegistryUpdate
from iose.globalplatform.life_cycle import LOCK_BIT, NO_PRIVILEGES, Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu


def plan_deletion(inventory: CardInventory, aid: Aid, *, is_related: bool) -> Plan:
    """Return the plan to remove an application, or a load file.

    Args:
        inventory: What is on the card.
        aid: What goes.
        is_related: Whether the instances of a load file go with it.

    Raises:
        CardManagementError: It is the issuer security domain, or a load file in use.
    """
    title = f"delete {aid}"
    if aid == inventory.issuer_domain:
        raise CardManagementError("the issuer security domain cannot be deleted")
    if inventory.application(aid) is not None:
        return Plan(title, (Step(f"delete the application {aid}", commands=(_delete(aid),)),))
    if inventory.load_file(aid) is None:
        return Plan(title, notes=(f"there is nothing of AID {aid} on the card",))
    users = [str(entry.aid) for entry in inventory.applications if entry.load_file == aid]
    if users and not is_related:
        raise CardManagementError(
            f"the load file is used by {', '.join(users)}",
            hint="delete these first, or all of it with --related",
        )
    words = f"delete the load file {aid}"
    if users:
        words += f" and its applications {', '.join(users)}"
    return Plan(title, (Step(words, commands=(_delete(aid, is_related=is_related),)),))


def plan_lock(inventory: CardInventory, aid: Aid, *, is_locked: bool) -> Plan:
    """Return the plan to lock an application, or to unlock it.

    Raises:
        CardManagementError: There is no such application.
    """
    verb = "lock" if is_locked else "unlock"
    entry = _application(inventory, aid)
    if bool(entry.state & LOCK_BIT) == is_locked:
        return Plan(f"{verb} {aid}", notes=(f"{aid} is {verb}ed already",))
    command = SetStatus(StatusScope.APPLICATIONS, entry.state ^ LOCK_BIT, aid).to_command()
    return Plan(f"{verb} {aid}", (Step(f"{verb} the application {aid}", commands=(command,)),))


def plan_default(inventory: CardInventory, aid: Aid) -> Plan:
    """Return the plan to have a reset select an application.

    Raises:
        CardManagementError: There is no such application, or it is locked.
    """
    entry = _application(inventory, aid)
    privileges = entry.privileges or NO_PRIVILEGES
    title = f"select {aid} by default"
    if privileges & Privilege.DEFAULT_SELECTED:
        return Plan(title, notes=(f"{aid} is selected by default already",))
    if entry.state & LOCK_BIT:
        raise CardManagementError(
            f"{aid} is locked: a reset would select nothing", hint="'iose card unlock' comes first"
        )
    command = RegistryUpdate(aid, privileges | Privilege.DEFAULT_SELECTED).to_command()
    step = Step(f"have a reset select {aid}", commands=(command,))
    return Plan(title, (*release_default(inventory, aid), step))


def release_default(inventory: CardInventory, aid: Aid) -> tuple[Step, ...]:
    """Return the step that takes the default selection from another application, if one has it."""
    holder = inventory.default_selected
    if holder is None or holder.aid == aid:
        return ()
    held = holder.privileges or NO_PRIVILEGES
    release = RegistryUpdate(holder.aid, held & ~Privilege.DEFAULT_SELECTED).to_command()
    restore = RegistryUpdate(holder.aid, held).to_command()
    words = f"no longer have a reset select {holder.aid}"
    return (Step(words, commands=(release,), undo=(restore,)),)


def _application(inventory: CardInventory, aid: Aid) -> StatusEntry:
    """Return the application of an AID.

    Raises:
        CardManagementError: There is none.
    """
    entry = inventory.application(aid)
    if entry is None:
        raise CardManagementError(
            f"there is no application {aid} on the card", hint="'iose card list' shows what is"
        )
    return entry


def _delete(aid: Aid, *, is_related: bool = False) -> CommandApdu:
    return Delete(aid, is_related).to_command()
