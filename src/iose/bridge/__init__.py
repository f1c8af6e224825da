# SPDX-License-Identifier: Apache-2.0
"""Network bytes to APDUs and back, as pure state machines."""
