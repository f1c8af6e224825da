# SPDX-License-Identifier: Apache-2.0
"""The audit log's thread: whatever it meets, who waits for it is told."""

import asyncio
from pathlib import Path

import pytest

from iose.runtime import audit as audit_module
from iose.runtime.audit import FileAuditLog
from iose.runtime.audit_chain import verify_log
from iose.servers.racs.audit import AuditError, AuditEvent

EVENT = AuditEvent("alice", "", "127.0.0.1:5", 7, "racs", "POWERON", "se-1")


def test_a_fault_nobody_thought_of_refuses_acts_and_ends_with_its_cause(tmp_path, monkeypatch):
    async def main(folder: Path) -> None:
        log = FileAuditLog(folder)
        await log.open()
        with monkeypatch.context() as broken:
            broken.setattr(audit_module, "next_line", lambda *_: 1 // 0)
            for _ in range(2):
                with pytest.raises(AuditError, match="division"):
                    await log.intend(EVENT)
            assert "division" in log.fault
        assert await log.intend(EVENT) == 2
        assert not log.fault
        await log.close()

    asyncio.run(main(tmp_path))
    assert verify_log(tmp_path).problems == ()
