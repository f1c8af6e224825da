# SPDX-License-Identifier: Apache-2.0
"""The programs inside a software element, one module or package each."""
