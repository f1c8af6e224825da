# SPDX-License-Identifier: Apache-2.0
"""The composition root: the only place that puts card, applets and stores together."""

from iose.runtime.compose.cards import build_card, card_packages, make_element
from iose.runtime.compose.elements import TlsSeMaker
from iose.runtime.compose.personalisation import (
    draw_instance_secrets,
    draw_module_secrets,
    encode_instance,
    encode_module,
)

__all__ = [
    "TlsSeMaker",
    "build_card",
    "card_packages",
    "draw_instance_secrets",
    "draw_module_secrets",
    "encode_instance",
    "encode_module",
    "make_element",
]
