# SPDX-License-Identifier: Apache-2.0
"""RACS and RACS Lite: lines that carry APDUs over TLS, both ends, without sockets (racs.md)."""
