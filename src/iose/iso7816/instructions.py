# SPDX-License-Identifier: Apache-2.0
"""Instructions that every card knows, whatever runs on it (ISO/IEC 7816-4)."""

from typing import Final

INS_MANAGE_CHANNEL: Final = 0x70
INS_SELECT: Final = 0xA4
INS_GET_RESPONSE: Final = 0xC0
P1_BY_AID: Final = 0x04  # of SELECT
