# SPDX-License-Identifier: Apache-2.0
"""Boards on serial lines that speak in lines of text (tls-im.md §5)."""

from iose.transport.serial_line.bank import SerialBank
from iose.transport.serial_line.line import DEFAULT_BAUD, SerialLine

__all__ = ["DEFAULT_BAUD", "SerialBank", "SerialLine"]
