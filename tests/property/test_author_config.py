# SPDX-License-Identifier: Apache-2.0
"""An imported policy, judged by the firewall's own rules, never opens what the files close."""

import tempfile
import tomllib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from iose.runtime.author_config import read_author_config
from iose.runtime.config import read_config
from iose.runtime.racs_rules import access_policy
from iose.servers.racs.elements import RacsElement
from iose.servers.racs.firewall import Firewall
from tests.support.scripted_connection import EchoElement, ScriptedReader

USERS = ("alice", "bob", "carol")
SEIDS = ("a", "b", "c")
AIDS = ("010203040500", "A000000003000000", "A00000000101")
OTHER = "F00000000000"
FILTERS = {"verify.txt": ("FFFF0000", "00200000"), "put.txt": ("00FF0000", "00D80000")}
HEADERS = ("00200000", "00D80000", "80D80000", "00CA0000")


def policy_lines():
    entry = st.tuples(st.sampled_from(USERS), st.sampled_from(["", *FILTERS]))
    return st.lists(
        st.tuples(
            st.sampled_from([*AIDS, "default"]),
            st.booleans(),
            st.lists(entry, max_size=3, unique_by=lambda one: one[0]),
        ),
        max_size=4,
    )


def tables():
    return st.dictionaries(
        st.sampled_from(USERS),
        st.none() | st.lists(st.sampled_from(SEIDS), unique=True),
        max_size=3,
    )


def published(users, policies, is_open, user, seid, aid):
    """Return what the published server means by its files: None, or the filter ("" for none)."""
    if user not in users or not (users[user] is None or seid in users[user]):
        return None
    for line_aid, is_black, entries in policies.get(seid, ()):
        if line_aid not in {aid, "default"}:
            continue
        named = dict(entries)
        if is_black:
            return None if user in named else ""
        return named.get(user)
    return "" if is_open else None


def write(folder, users, policies, is_open):
    (folder / "config.txt").write_text(f"se_default_access {'yes' if is_open else 'no'}\n")
    (folder / "users.txt").write_text(
        "".join(
            f"{name} all\n" if seids is None else f"{name} {len(seids)} {' '.join(seids)}\n"
            for name, seids in users.items()
        )
    )
    for seid, lines in policies.items():
        text = ""
        for aid, is_black, entries in lines:
            words = [f"{name}:{file}" if file else name for name, file in entries]
            text += f"{aid} {'yes' if is_black else 'no'} {len(words)} {' '.join(words)}\n"
        (folder / f"{seid}.txt").write_text(text)
    for name, (mask, value) in FILTERS.items():
        (folder / name).write_text(f"{mask} {value}\n")


def ours(policy, user, seid, aid, header):
    """Return whether a user may select an applet, and then send a header to it."""
    element = RacsElement(seid, ScriptedReader(EchoElement()))
    grant = policy.check(frozenset({user, "*"}), element)
    if grant is None:
        return False
    firewall = Firewall()
    body = bytes.fromhex(aid)
    select = bytes.fromhex("00A40400") + bytes((len(body),)) + body
    if firewall.judge(select, grant) is not None:
        return False
    firewall.note(select, 0x9000)
    return firewall.judge(bytes.fromhex(header) + b"\x00", grant) is None


@settings(max_examples=80)
@given(tables(), st.dictionaries(st.sampled_from(SEIDS), policy_lines(), max_size=3), st.booleans())
def test_nobody_gets_more_than_the_files_say(users, policies, is_open):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, users, policies, is_open)
        imported = read_author_config(folder)
    policy = access_policy(read_config(tomllib.loads(imported.toml)).racs)
    for user in USERS:
        for seid in (*SEIDS, "d"):
            for aid in (*AIDS, OTHER):
                meant = published(users, policies, is_open, user, seid, aid)
                for header in HEADERS:
                    if not ours(policy, user, seid, aid, header):
                        continue
                    assert meant is not None, (user, seid, aid)
                    mask, value = FILTERS.get(meant, ("00000000", "FFFFFFFF"))
                    assert int(header, 16) & int(mask, 16) != int(value, 16)


def test_what_the_files_say_plainly_is_given():
    """The negative twin: the property would hold of an importer that gives nothing."""
    users = {"alice": ["a"]}
    policies = {"a": [(AIDS[0], False, [("alice", "verify.txt")])]}
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), users, policies, is_open=False)
        policy = access_policy(read_config(tomllib.loads(read_author_config(Path(name)).toml)).racs)
    assert ours(policy, "alice", "a", AIDS[0], "00CA0000")
    assert not ours(policy, "alice", "a", AIDS[0], "00200000")
    assert not ours(policy, "alice", "a", AIDS[1], "00CA0000")
