# SPDX-License-Identifier: Apache-2.0
"""Measure this machine: elements and a reference in the same run, with the same outside client."""
