# SPDX-License-Identifier: Apache-2.0
"""Simulated readers, each a program of its own: software cards behind the real wire, and faults.

``python -m tests.twins.NAME`` prints ``{"ready": true, …}``, takes an order a line on its standard
input, and ends with it; ``tests.support.twin`` starts them.
"""
