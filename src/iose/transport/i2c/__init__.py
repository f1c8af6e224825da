# SPDX-License-Identifier: Apache-2.0
"""Elements on an I2C bus: Linux i2c-dev with GPIO reset lines, or a bus behind a socket."""

from iose.transport.i2c.bank import I2cBank

__all__ = ["I2cBank"]
