# SPDX-License-Identifier: Apache-2.0
"""The published server's directory as a configuration of ours: no more rights than it gives."""

import tomllib

import pytest

from iose.runtime.author_config import read_author_config
from iose.runtime.config import read_config
from iose.runtime.errors import ConfigurationError

AID = "010203040500"
ISD = "A000000003000000"
EVERYTHING = ("*", "VERIFY")


@pytest.fixture
def imported(tmp_path):
    """Give a function that writes files, imports them, and returns configuration and notes."""

    def work(**files):
        texts = {"config": "se_default_access yes\n", "users": "", **files}
        for name, text in texts.items():
            data = text if isinstance(text, bytes) else text.encode()
            (tmp_path / f"{name}.txt").write_bytes(data)
        found = read_author_config(tmp_path)
        return read_config(tomllib.loads(found.toml)), "\n".join(found.notes)

    return work


def rights(config):
    """Return (user, elements, AIDs, denied) of every rule."""
    for rule in config.racs.rules:
        assert rule.verbs == (EVERYTHING if rule.aids else ("*",))
    return [(rule.user, rule.elements, rule.aids, rule.deny) for rule in config.racs.rules]


def test_settings_become_ours(imported):
    config, notes = imported(
        config=(
            "// a comment\n* another\n\nserver_port 0.0.0.0:7777 \nserver_port2 127.0.0.1:9\r\n"
            "server_timeout 600000 (in ms)\nserver_timeout2 30000\nserver_cnx_timeout2 10000\n"
            "keystore_wait_end_time 60000\nnb_session_max 500\nracs_verbose yes\nodd_key 1\n"
            "nb_session_max 1000\n"
        )
    )
    assert config.racs.listen == ("0.0.0.0:7777",)
    assert config.racs.session_s == 600
    assert config.front.listen == ("127.0.0.1:9",)
    assert (config.front.session_s, config.front.first_record_s) == (30, 10)
    assert (config.front.drain_s, config.front.session_limit) == (60, 1000)
    assert "odd_key has no counterpart" in notes
    assert "racs_verbose" not in notes


def test_nothing_after_a_key_without_a_value_is_read(imported):
    config, notes = imported(config="server_port 127.0.0.1:1\nlog_dir\nserver_port 127.0.0.1:2\n")
    assert config.racs.listen == ("127.0.0.1:1",)
    assert "log_dir has no value" in notes
    assert "the 1 lines after it" in notes


def test_a_plane_that_is_off_listens_nowhere(imported):
    config, _ = imported(config="server_port 127.0.0.1:1\nenable_racs no\nenable_tls_se no\n")
    assert (config.racs.listen, config.front.listen) == ((), ())


@pytest.mark.parametrize(
    "line",
    ["server_port everywhere", "server_timeout soon", "nb_session_max -1", "server_timeout 0"],
)
def test_a_value_that_makes_no_sense_leaves_our_default(imported, line):
    config, notes = imported(config=line)
    ours = {"elements": 0, "racs": {}, "readers": [{"type": "pcsc"}]}
    assert config == read_config(ours)
    assert ("our default stands" in notes) == (not line.endswith(" 0"))


def test_a_users_elements_are_what_the_count_says(imported):
    config, notes = imported(
        users=(
            "/ comment\n* comment\nalice 2 a b\nbob 1 a b\ncarol 3 a\ndave many\nerin\n"
            "alice all\nsha256:00 all\nfrank 0\ngina 2 g* x\n"
        )
    )
    assert rights(config) == [
        ("alice", ("a", "b"), ("*",), ()),
        ("bob", ("a",), ("*",), ()),
        ("carol", ("a",), ("*",), ()),
        ("gina", ("x",), ("*",), ()),
    ]
    for name in ("bob", "carol", "dave", "erin", "alice", "sha256:00", "gina"):
        assert name in notes


def test_who_has_all_elements_has_them_here(imported):
    assert rights(imported(users="alice all")[0]) == [("alice", ("*",), ("*",), ())]


@pytest.mark.parametrize("config", ["x 1\n", "se_default_access no\n"])
def test_what_no_policy_speaks_of_is_closed_unless_said_otherwise(imported, config):
    config, notes = imported(config=config, users="alice 1 a\nbob all", a=f"{AID} no 1 alice")
    assert rights(config) == [
        ("alice", ("a",), (AID,), ()),
        ("bob", ("*",), (), ()),
    ]
    assert "whatever se_default_access says" in notes


def test_white_and_black_lists_are_told_apart(imported):
    config, _ = imported(
        config="se_default_access no\n",
        users="alice 1 a\nbob 1 a\n",
        a=f"{AID} no 1 alice\n{ISD} yes 1 alice\n",
    )
    assert rights(config) == [("alice", ("a",), (AID,), ()), ("bob", ("a",), (ISD,), ())]


def test_the_first_line_of_an_aid_counts(imported):
    config, _ = imported(
        config="se_default_access no\n",
        users="alice 1 a\nbob 1 a\n",
        a=f"{AID} no 1 alice\n{AID.lower()} yes 0\ndefault no 0\ndefault yes 0\n",
    )
    assert rights(config) == [("alice", ("a",), (AID,), ()), ("bob", ("a",), (), ())]


def test_anything_else_is_given_only_where_nothing_is_taken(imported):
    config, notes = imported(
        users="alice 1 a\nbob 1 a\n", a=f"{AID} no 1 alice\ndefault no 2 alice bob\n"
    )
    assert rights(config) == [("alice", ("a",), (AID, "*"), ()), ("bob", ("a",), (), ())]
    assert f"a.txt: bob may select anything but {AID}" in notes


def test_filters_stay_with_their_aid(imported):
    config, _ = imported(
        users="alice 1 a\n",
        a=f"{AID} no 1 alice:filter.txt\n{ISD} no 1 alice\ndefault no 0\n",
        filter="// VERIFY\nFFFF0000 00200000\n00 FF 00 00 00 D8 00 00\n",
    )
    assert rights(config) == [
        ("alice", ("a",), (AID,), ("FFFF0000:00200000", "00FF0000:00D80000")),
        ("alice", ("a",), (ISD,), ()),
    ]


@pytest.mark.parametrize("content", [None, "FFFF0000", "zz", b"FFFF0000 00200000\n\xff\n"])
def test_an_applet_whose_filter_is_missing_or_bad_is_closed(imported, content):
    files = {} if content is None else {"filter": content}
    config, notes = imported(users="alice 1 a\n", a=f"{AID} no 1 alice:filter.txt\n", **files)
    assert rights(config) == [("alice", ("a",), (), ())]
    assert "filter.txt" in notes


def test_a_file_that_no_directory_can_hold_is_missing(imported):
    name = "x" * 300
    config, notes = imported(
        config=f"cert_file {name}\nkey_file k\nca_file c\n",
        users="alice 1 a\n",
        a=f"{AID} no 1 alice:{name}\n",
    )
    assert rights(config) == [("alice", ("a",), (), ())]
    assert "certificates are not carried over" in notes


def test_a_filter_outside_the_directory_is_not_read(imported, tmp_path):
    (tmp_path.parent / "outside.txt").write_text("FFFF0000 00200000")
    config, _ = imported(users="alice 1 a\n", a=f"{AID} no 1 alice:../outside.txt\n")
    assert rights(config) == [("alice", ("a",), (), ())]


@pytest.mark.parametrize(
    "line",
    [
        "default maybe 0",
        "default no",
        "default no x",
        "default yes 1000",
        "0102 no 0",
        "zz no 0",
        b"\xff no 0",
        "default yes 0 " + "x" * 1023,
        "default yes 0 \0",
    ],
)
@pytest.mark.parametrize("users", ["alice 1 a\n", "alice all\n"])
def test_a_policy_that_is_not_understood_closes_its_element(imported, line, users):
    text = line if isinstance(line, bytes) else line.encode()
    config, notes = imported(users=users, a=f"{AID} yes 0\n".encode() + text)
    assert all(not rule.aids for rule in config.racs.rules)
    assert "a.txt is not understood" in notes


def test_a_filter_that_bears_the_name_of_an_element_closes_it(imported):
    config, _ = imported(
        users="alice 2 a b\n",
        a="FFFF0000 00200000\n",
        b=f"{AID} no 1 alice:a.txt\ndefault no 0\n",
    )
    assert rights(config) == [
        ("alice", ("a",), (), ()),
        ("alice", ("b",), (AID,), ("FFFF0000:00200000",)),
    ]


def test_who_has_all_elements_may_select_nothing_where_single_ones_have_policies(imported):
    config, notes = imported(users="alice all\nbob 2 a b\n", a=f"{AID} no 1 alice\n")
    assert rights(config) == [
        ("alice", ("*",), (), ()),
        ("alice", ("a",), (AID, "*"), ()),
        ("bob", ("a",), (), ()),
        ("bob", ("b",), ("*",), ()),
    ]
    assert "name them in rules of their own" in notes


def test_a_white_list_longer_than_its_count_is_cut_and_a_black_one_is_not(imported):
    config, notes = imported(
        config="se_default_access no\n",
        users="alice 1 a\nbob 1 a\ncarol 1 a\n",
        a=f"{AID} no 1 alice bob\n{ISD} yes 1 alice bob\n",
    )
    assert rights(config) == [
        ("alice", ("a",), (AID,), ()),
        ("bob", ("a",), (), ()),
        ("carol", ("a",), (ISD,), ()),
    ]
    assert "a.txt: 1 users are counted" in notes


def test_names_become_aliases_or_take_an_element_off(imported):
    config, notes = imported(
        config="use_sen_as_cardsn yes\n",
        sen_1010=f"key7.com {AID}\n",
        sen_1011="null\n",
        sen_1012="key9.com 00\n",
        sen_1013="key10.com zzzz\n",
        sen_1014="",
        sen_1015="clé",
        sen_1016="x" * 256,
        cardsn="key1.com card1\nkey2.com c*\n",
    )
    found = {
        name: (one.aliases, one.aid, one.is_enabled, one.seids)
        for name, one in config.element.items()
    }
    assert found == {
        "1010": (("key7.com",), AID, True, ()),
        "1011": ((), "", False, ()),
        "1012": ((), "", False, ()),
        "1013": (("key10.com",), "", False, ()),
        "1015": ((), "", False, ()),
        "1016": ((), "", False, ()),
        "key1.com": ((), "", True, ("card1",)),
    }
    assert "zzzz is no AID" in notes


def test_certificates_are_carried_over_when_all_are_there(imported, tmp_path):
    text = "cert_file server.pem\nkey_file serverkey.pem\nca_file root.pem\npassword secretword\n"
    config, notes = imported(config=text)
    assert (config.racs.certificate, config.racs.ca) == ("", "")
    assert "certificates are not carried over" in notes
    for name in ("server.pem", "serverkey.pem", "root.pem"):
        (tmp_path / name).touch()
    config, notes = imported(config=text + "cipher_list AES128-GCM-SHA256\n")
    assert config.racs.ca == str(tmp_path / "root.pem")
    assert config.racs.legacy_rsa_kx is False
    assert "legacy_rsa_kx" in notes
    assert "take it off" in notes
    assert "secretword" not in notes


def test_any_printable_text_makes_a_readable_file(imported):
    config, _ = imported(users='"a\\ü😀 1 s"\\\n')
    assert rights(config) == [('"a\\ü😀', ('s"\\',), ("*",), ())]


def test_the_name_of_a_file_cannot_become_a_rule(imported, tmp_path):
    rule = '[[racs.rules]]\nuser = "*"\nelements = ["*"]\nverbs = ["*"]\naids = ["*"]'
    (tmp_path / f"x\n{rule}\n#.txt").touch()
    config, notes = imported()
    assert rights(config) == []
    assert "\\n[[racs.rules]]" in notes


@pytest.mark.parametrize(
    ("lines", "given"),
    [
        ("alice all\nalice 1 a", ("a",)),
        ("alice 2 a b\nalice 2 b c", ("b",)),
        ("alice 1 a\nalice x\n", None),
        ("alice x\nalice all\n", None),
        ("alice 1 a " + "x" * 1023 + "\nalice all", None),
    ],
)
def test_a_user_who_stands_there_twice_has_what_every_line_gives(imported, lines, given):
    found = rights(imported(users=lines)[0])
    assert found == ([] if given is None else [("alice", given, ("*",), ())])


@pytest.mark.parametrize(
    ("lines", "aids"),
    [
        (b"se_default_access yes\nse_default_access no \0\n", ()),
        (b"se_default_access yes\n\xff\n", ()),
        (b"\xff\nse_default_access yes\n", ("*",)),
    ],
)
def test_a_damaged_line_of_settings_may_be_the_one_that_closes(imported, lines, aids):
    assert rights(imported(config=lines, users="alice 1 a")[0]) == [("alice", ("a",), aids, ())]


@pytest.mark.parametrize("name", ["A.txt", "a.TXT", "users.txt", "sen_a.txt"])
@pytest.mark.parametrize("access", ["yes", "no"])
def test_a_policy_that_only_some_systems_find_closes_its_element(imported, tmp_path, name, access):
    seid = {"users.txt": "USERS", "sen_a.txt": "sen_a"}.get(name, "a")
    if name != "users.txt":
        (tmp_path / name).write_text(f"{AID} no 1 alice\ndefault no 0")
    config, notes = imported(config=f"se_default_access {access}\n", users=f"alice 1 {seid}")
    assert rights(config) == [("alice", (seid,), (), ())]
    assert f"nobody may select anything in {seid}" in notes


def test_a_filter_holds_where_its_applet_is_selected_without_its_name(imported):
    config, _ = imported(
        users="alice 1 a\n",
        a=f"{AID} no 1 alice:filter.txt\ndefault no 1 alice\n",
        filter="FFFF0000 00200000\n",
    )
    assert rights(config) == [("alice", ("a",), (AID, "*"), ("FFFF0000:00200000",))]


@pytest.mark.parametrize(
    ("users", "aids", "denied"),
    [
        ("alice:one.txt alice:two.txt", (AID,), ("FFFF0000:00200000", "00FF0000:00D80000")),
        ("alice alice:one.txt", (AID,), ("FFFF0000:00200000",)),
        ("alice alice:none.txt", (), ()),
        ("alice:", (), ()),
    ],
)
def test_every_filter_of_a_user_holds(imported, users, aids, denied):
    config, _ = imported(
        users="alice 1 a\n",
        a=f"{AID} no 2 {users}\ndefault no 0\n",
        one="FFFF0000 00200000\n",
        two="00FF0000 00D80000\n",
    )
    assert rights(config) == [("alice", ("a",), aids, denied)]


def test_a_security_domain_that_is_closed_by_one_aid_is_closed_by_the_other(imported):
    config, notes = imported(
        config="se_default_access no\n",
        users="alice 1 a\nbob 1 a\n",
        a=f"{ISD} no 2 alice bob\nA000000151000000 yes 1 alice\n{AID} no 1 alice\n",
    )
    assert rights(config) == [
        ("alice", ("a",), (AID,), ()),
        ("bob", ("a",), (ISD, "A000000151000000"), ()),
    ]
    assert "a.txt: alice may not select the issuer security domain" in notes


@pytest.mark.parametrize("missing", ["config.txt", "users.txt"])
def test_a_directory_without_the_two_files_is_refused(tmp_path, missing):
    for name in {"config.txt", "users.txt"} - {missing}:
        (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match="holds no"):
        read_author_config(tmp_path)


def test_a_file_that_is_too_large_is_refused(imported):
    with pytest.raises(ConfigurationError, match="more than"):
        imported(users="a" * (1 << 20) + "\n")
