# SPDX-License-Identifier: Apache-2.0
"""The configuration file: what is accepted, and what a wrong line says."""

import json
import tomllib
from pathlib import Path

import pytest

from iose.runtime.config import NodeConfig, load_config, parse_address, read_config
from iose.runtime.errors import ConfigurationError
from iose.runtime.routing import front_config
from iose.servers.tls_front import FrontConfig

FULL = """
data = "/var/lib/iose"
elements = 5
hosts = 2
passphrase_file = "/etc/iose/passphrase"

[front]
listen = ["127.0.0.1:8888", "[::1]:8888"]
default_sen = "key1.com"
is_silent = true
idle_s = 20
session_limit = 100

[element."key1.com"]
aliases = ["a-much-longer-name.example.com"]
aid = "010203040500"

[element.se-00000001]
is_enabled = false

[log]
level = "debug"
format = "text"
"""


def read(tmp_path: Path, text: str) -> NodeConfig:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return load_config(path)


def test_an_empty_file_gives_the_defaults(tmp_path: Path):
    config = read(tmp_path, "")
    assert config == NodeConfig()
    assert config.listen == (("127.0.0.1", 8888),)
    assert config.host_count >= 1


def test_every_key_is_read(tmp_path: Path):
    config = read(tmp_path, FULL)
    assert config.folder == Path("/var/lib/iose")
    assert (config.elements, config.host_count) == (5, 2)
    assert config.listen == (("127.0.0.1", 8888), ("::1", 8888))
    assert config.element["key1.com"].aliases == ("a-much-longer-name.example.com",)
    assert not config.element["se-00000001"].is_enabled
    assert config.log.level == "debug"


def test_the_example_in_the_documentation_is_accepted(tmp_path: Path):
    page = Path(__file__).parents[3] / "docs" / "howto" / "run-a-node.md"
    example = page.read_text().split("```toml\n")[1].split("```")[0]
    config = read(tmp_path, example)
    assert front_config(config) == FrontConfig(listen=config.listen, default_sen="key1.com")


def test_the_front_keeps_its_own_defaults_for_what_is_left_out(tmp_path: Path):
    front = front_config(read(tmp_path, FULL))
    assert (front.idle_s, front.session_limit, front.is_silent) == (20.0, 100, True)
    assert front.first_record_s == 10.0
    assert front.default_sen == "key1.com"


def test_a_configuration_survives_the_way_to_another_process(tmp_path: Path):
    config = read(tmp_path, FULL)
    assert read_config(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("elemnts = 3", "'elemnts'", "'elements'"),
        ("[front]\nlisten_on = []", "'front.listen_on'", "'front.listen'"),
        ("[frnt]", "'frnt'", "'front'"),
        ('[element."key1.com"]\nalias = []', "'element.key1.com.alias'", "aliases"),
        ("[log]\nlevels = 1", "'log.levels'", "'log.level'"),
        ("zzz = 3", "'zzz'", "known here"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(tmp_path: Path, text, message, hint):
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert "node.toml" in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('elements = "three"', "'elements' must be a whole number"),
        ("elements = true", "'elements' must be a whole number"),
        ("elements = -1", "'elements' must be between"),
        ("elements = 100000", "'elements' must be between"),
        ("hosts = 65", "'hosts' must be between"),
        ("data = 3", "'data' must be a text"),
        ("[front]\nlisten = '127.0.0.1:1'", "'front.listen' must be a list"),
        ("[front]\nlisten = ['127.0.0.1']", "not an address"),
        ("[front]\nidle_s = 0", "'front.idle_s' must be above 0"),
        ("[front]\nsource_burst = -1", "'front.source_burst' must be above 0"),
        ("[front]\nidle_s = nan", "'front.idle_s' must be above 0"),
        ("[front]\nidle_s = inf", "'front.idle_s' must be above 0"),
        ("[element.x]\naliases = ['']", "'element.x.aliases'"),
        ("[element.x]\naliases = ['a b']", "'element.x.aliases'"),
        ("[front]\nis_silent = 1", "'front.is_silent' must be true or false"),
        ("front = 3", "'front' must be a table"),
        ("element = 3", "'element' must be a table"),
        ("element.x = 3", "'element.x' must be a table"),
        ("[element.x]\naid = 'zz'", "'element.x.aid'"),
        ("[log]\nlevel = 'loud'", "'log.level' must be one of"),
        ("= 3", "is not TOML"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, text: str, message: str):
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_a_missing_file_is_an_error_of_the_operator(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::]:65535", ("::", 65535)),
        ("localhost:8888", ("localhost", 8888)),
    ],
)
def test_addresses_are_host_and_port(text: str, address: tuple[str, int]):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", ":1", "1", "a:", "::1:8888", "a:65536", "a:-1", "a:x", "a:٣", "[]:1"]
)
def test_other_texts_are_no_addresses(text: str):
    with pytest.raises(ConfigurationError):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('[readers]\ntype = "pcsc"', "write [[readers]], in two brackets, before each"),
        ('[racs.rules]\nuser = "a"', "write [[racs.rules]], in two brackets, before each"),
        ("[front.listen]\na = 1", None),
    ],
)
def test_tables_of_one_kind_are_written_in_two_brackets(text, hint):
    with pytest.raises(ConfigurationError, match="must be a list") as caught:
        read_config(tomllib.loads(text))
    assert caught.value.hint == hint
