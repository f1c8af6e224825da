# SPDX-License-Identifier: Apache-2.0
"""Software elements of a data folder, for their owner: what there is, made, moved, removed."""
