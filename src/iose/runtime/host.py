# SPDX-License-Identifier: Apache-2.0
"""The element host's program: ``python -m iose.runtime.host CHANNEL LOCK``.

The supervisor's channel brings everything, the folder's data key included, and nothing comes by
argument or environment. The folder's lock is inherited, so that nobody else opens the stores
while this process lives. It leaves when the channel closes.
"""

import sys
from pathlib import Path

from iose.runtime import compose
from iose.runtime.channel import (
    Arguments,
    JsonChannel,
    Result,
    read_int,
    read_list,
    read_object,
    read_text,
)
from iose.runtime.config import LogSettings
from iose.runtime.control import listen_unix
from iose.runtime.elements.owner import Owner
from iose.runtime.elements.rack import Rack
from iose.runtime.elements.record import ElementRecord
from iose.runtime.elements.shelf import StoreShelf
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder
from iose.runtime.logs import configure_logs
from iose.runtime.process import forbid_core_files, hide_memory, run_child
from iose.runtime.schema import read_table
from iose.runtime.store import SqliteStore
from iose.servers.element_host import ElementHostServer


class ElementHost:
    """One host process: a rack, the owner's operations on it, and the server a node connects to."""

    def __init__(self) -> None:
        self._channel: JsonChannel | None = None
        self._rack: Rack | None = None
        self._owner: Owner | None = None
        self._server: ElementHostServer | None = None

    async def handle(self, op: str, arguments: Arguments) -> Result:
        """Carry out what the supervisor asks: ``open`` first, then the owner's operations.

        Raises:
            ConfigurationError: The operation is unknown, refused, or comes before ``open``.
        """
        if op == "open":
            return await self._open(arguments)
        if self._owner is None or self._rack is None:
            raise ConfigurationError(f"{op!r} before 'open'")
        if op == "close":
            return await self._close()
        return await self._owner.handle(op, arguments)

    def adopt(self, channel: JsonChannel) -> None:
        """Use this channel to tell of records that changed."""
        self._channel = channel

    async def stop(self) -> None:
        """Power everything off and close every store."""
        if self._server is not None:
            await self._server.stop()
        if self._rack is not None:
            self._rack.close()

    async def _open(self, arguments: Arguments) -> Result:
        configure_logs(read_table(LogSettings, read_object(arguments.get("log"))))
        folder = DataFolder(Path(read_text(arguments, "folder")))
        key = arguments.get("key")
        data_key = bytes.fromhex(key) if isinstance(key, str) else None
        if data_key is not None:
            hide_memory()
        shelf = StoreShelf(folder, data_key, SqliteStore)
        maker = compose.TlsSeMaker()
        self._rack = Rack(shelf, maker, self._tell)
        self._owner = Owner(self._rack, shelf, maker, OsRng())
        given = read_list(arguments, "elements")
        self._rack.adopt([ElementRecord.from_json(read_object(item)) for item in given])
        if "number" in arguments:
            await self._listen(self._rack, folder.host_socket(read_int(arguments, "number")))
        return self._records()

    async def _listen(self, rack: Rack, path: Path) -> None:
        try:
            listener = listen_unix(path)
        except OSError as error:
            raise ConfigurationError(
                f"the socket {path} cannot be made: {error.strerror}",
                hint=f"see what is wrong with the folder {path.parent}",
            ) from error
        self._server = ElementHostServer(rack)
        await self._server.start(listener)

    async def _close(self) -> Result:
        await self.stop()
        return self._records()

    def _records(self) -> Result:
        records = self._rack.records.values() if self._rack is not None else ()
        return {"elements": [record.to_json() for record in records]}

    def _tell(self, record: ElementRecord) -> None:
        if self._channel is not None:
            self._channel.tell("record", {"element": record.to_json()})


def main() -> None:
    """Run an element host."""
    forbid_core_files()
    host = ElementHost()
    run_child(int(sys.argv[1]), host.handle, host.stop, host.adopt)


if __name__ == "__main__":
    main()
