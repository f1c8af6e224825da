# SPDX-License-Identifier: Apache-2.0
"""What tests share: fakes, vectors and peers."""
