# SPDX-License-Identifier: Apache-2.0
"""``iose node`` and ``iose up`` where nothing runs, or nothing can: messages and exit status."""

from pathlib import Path

import pytest

from iose.cli.main import run


@pytest.mark.parametrize("command", ["status", "reload", "stop"])
def test_a_folder_without_a_node_says_what_to_do(command: str, tmp_path: Path, capsys):
    assert run(["node", command, "--data", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "no node runs" in err
    assert "iose up" in err


def test_a_wrong_configuration_file_starts_nothing(tmp_path: Path, capsys):
    config = tmp_path / "node.toml"
    config.write_text(f'data = "{tmp_path / "data"}"\nlisten = "127.0.0.1:1"\n')
    assert run(["node", "run", "--config", str(config)]) == 1
    assert "unknown setting 'listen'" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "options", [["--front", "8888"], ["--passphrase-file", "/absent"], ["--ask-passphrase"]]
)
def test_up_refuses_what_it_cannot_use(options: list[str], tmp_path: Path, capsys):
    assert run(["up", "--data", str(tmp_path / "data"), *options]) == 1
    assert capsys.readouterr().err.startswith("error:")


def test_a_process_that_is_down_is_shown_so(monkeypatch, capsys):
    process = {"name": "element host 0", "pid": None, "uptime_s": 0.0, "restarts": 7}
    status = {"front": [], "uptime_s": 1.0, "data": "/d", "processes": [process], "elements": []}
    monkeypatch.setattr("iose.cli.node._ask", lambda *_: status)
    assert run(["node", "status"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "element host 0\tdown\t0.0\t7"


def test_a_name_that_leads_to_another_element_is_shown(monkeypatch, capsys):
    lost = [{"seid": "se-1", "sen": "key1.com"}]
    status = {"front": [], "uptime_s": 1.0, "data": "/d", "processes": [], "elements": []}
    monkeypatch.setattr("iose.cli.node._ask", lambda *_: {**status, "not_served": lost})
    assert run(["node", "status"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: the name key1.com does not lead to se-1")
