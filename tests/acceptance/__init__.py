# SPDX-License-Identifier: Apache-2.0
"""What was promised, proven on whole nodes against programs of others."""
