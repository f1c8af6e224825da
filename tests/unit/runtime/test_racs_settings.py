# SPDX-License-Identifier: Apache-2.0
"""Table ``racs``: what is accepted, what a wrong line says, what it comes to."""

from pathlib import Path
from typing import Any

import pytest

from iose.runtime.config import PLANES, read_config
from iose.runtime.errors import ConfigurationError
from iose.runtime.own_authority import node_names
from iose.runtime.racs_rules import racs_config, racsl_credentials
from iose.runtime.racs_settings import OPERATOR_RULE, RacsSettings
from iose.servers.racs.config import RacsConfig

RULE = {"user": "alice", "elements": ["se-*"], "verbs": ["*"], "aids": ["isd", "A0000001"]}


def read(**racs: Any) -> RacsSettings:
    settings = read_config({"racs": racs}).racs
    assert settings is not None
    return settings


def test_there_is_no_administration_plane_without_its_table():
    config = read_config({})
    assert config.racs is None
    assert [config.listen_of(plane) for plane in PLANES[1:]] == [()] * 3


def test_an_empty_table_listens_on_loopback_and_gives_nobody_anything():
    assert read_config({"racs": {}}).listen_of("racs") == (("127.0.0.1", 7777),)
    assert read().rules == ()


def test_a_configuration_goes_to_the_node_process_and_comes_back():
    full = read_config({"racs": {"rules": [OPERATOR_RULE, RULE], "http_listen": ["[::1]:80"]}})
    assert read_config(_plain(full.to_json())) == full


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def test_defaults_are_those_of_the_plane_and_given_values_replace_them():
    assert racs_config(read()) == RacsConfig(listen=())
    given = racs_config(read(idle_s=5, session_s=0, compat="reference", http_get_acts=True))
    assert given == RacsConfig((), "reference", idle_s=5.0, session_s=0.0, http_get_acts=True)


@pytest.mark.parametrize(
    ("racs", "message"),
    [
        ({"listn": []}, "unknown setting 'racs.listn'"),
        ({"listen": ["7777"]}, "not an address"),
        ({"http_listen": ["x"]}, "not an address"),
        ({"racsl_listen": [":1"]}, "not an address"),
        ({"idle_s": 0}, "racs.idle_s"),
        ({"session_s": -1}, "racs.session_s"),
        ({"session_limit": 0}, "racs.session_limit"),
        ({"compat": "urien"}, "one of"),
        ({"certificate": "a"}, "go together"),
        ({"crl": "a"}, "'racs.ca', which is missing"),
        ({"rules": [{"user": "a"}]}, "'racs.rules.elements' is missing"),
        ({"rules": [RULE, {**RULE, "verbs": ["FLY"]}]}, "racs.rules, number 2: FLY"),
        ({"rules": [{**RULE, "aids": ["0G"]}]}, "number 1"),
        ({"rules": [{**RULE, "deny": ["00"]}]}, "number 1"),
        ({"rules": [{**RULE, "user": "sha256:00"}]}, "fingerprint"),
        ({"racsl": [{"identity": "a"}]}, "psk_file"),
    ],
)
def test_a_wrong_line_is_named(racs: dict[str, Any], message: str):
    with pytest.raises(ConfigurationError) as caught:
        read(**racs)
    assert message in str(caught.value)


def test_the_node_is_certified_for_where_it_listens_but_not_for_everywhere():
    names = node_names(read(listen=["0.0.0.0:1", "192.0.2.1:1", "[::]:2"], names=["a.example"]))
    assert {"localhost", "127.0.0.1", "::1", "192.0.2.1", "a.example"} <= set(names)
    assert not {"0.0.0.0", "::"} & set(names)  # noqa: S104  # compared


def credentials(path: Path, **more: str) -> dict[str, tuple[bytes, str]]:
    entry = {"identity": "board", "psk_file": str(path), "element": "se-1", **more}
    return racsl_credentials(read(racsl=[entry]))


def test_a_key_of_racs_lite_comes_from_a_private_file(tmp_path: Path):
    path = tmp_path / "psk"
    path.write_text("ab" * 32 + "\n")
    path.chmod(0o600)
    assert credentials(path) == {"board": (b"\xab" * 32, "se-1")}
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="read by others"):
        credentials(path)


@pytest.mark.parametrize("text", ["", "ab" * 15, "ab" * 65, "xy" * 32, "é" * 32])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, text: str):
    path = tmp_path / "psk"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="holds no key") as caught:
        credentials(path)
    assert not text or text not in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        credentials(tmp_path / "absent")


def test_an_identity_is_there_once(tmp_path: Path):
    path = tmp_path / "psk"
    path.write_text("ab" * 32)
    path.chmod(0o600)
    entry = {"identity": "board", "psk_file": str(path), "element": "se-1"}
    with pytest.raises(ConfigurationError, match="twice"):
        racsl_credentials(read(racsl=[entry, entry]))
