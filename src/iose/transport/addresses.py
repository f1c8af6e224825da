# SPDX-License-Identifier: Apache-2.0
"""How a network address is written, wherever one is shown: in logs, errors and URIs."""


def format_address(host: str, port: int) -> str:
    """Return ``HOST:PORT``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
