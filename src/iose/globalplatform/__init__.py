# SPDX-License-Identifier: Apache-2.0
"""GlobalPlatform secure channels and card management, both ends."""
