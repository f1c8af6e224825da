# SPDX-License-Identifier: Apache-2.0
"""Card management from the host: what an administrator does to a card through its ISD (GPCS 2.3.1).

``iose card`` and programs use it over any reader. Keys of a card stay in this process: readers and
nodes in between see wrapped commands only.
"""
