# SPDX-License-Identifier: Apache-2.0
"""What several applets do alike: two PINs, key pairs, and what follows from a PSK."""
