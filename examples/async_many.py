# SPDX-License-Identifier: Apache-2.0
"""Ask several elements at once for their version and their first public key.

python examples/async_many.py 'keyS://key1.com@127.0.0.1:8888/' 'keyS://key2.com@127.0.0.1:8888/'
"""

import asyncio
import sys

import iose


async def describe(uri: str) -> str:
    """Return a line about one element, also when it does not answer."""
    try:
        async with iose.connect_async(uri, timeout_s=10) as element:
            version = await element.version()
            key = await element.application_public_key()
            return f"{element.uri.sen}: {version}, application key {key[:8].hex()}…"
    except iose.IoseError as error:
        return f"{iose.ElementUri.decode(uri).sen}: {error}"


async def main(uris: list[str]) -> None:
    """Ask all of them at once, and print in the order given."""
    for line in await asyncio.gather(*map(describe, uris)):
        print(line)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
