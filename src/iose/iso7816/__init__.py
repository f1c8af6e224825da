# SPDX-License-Identifier: Apache-2.0
"""Card vocabulary: APDUs, status words, AIDs, ATRs, BER-TLV (ISO/IEC 7816-3 and -4)."""
