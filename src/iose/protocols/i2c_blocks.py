# SPDX-License-Identifier: Apache-2.0
"""T=1 over I2C as NXP parts speak it: chained I-blocks, R-blocks, S-blocks (tls-im.md §4.1).

The spec gives frames, alternating I-blocks, the soft reset and polling by three bytes; chaining,
R-blocks, S-blocks for waiting time, INF size and resynchronization are those of ISO/IEC 7816-3 §11
and UM11225, with the number of tries of iose-server.md §8.4: docs/decisions says which is which.
"""

from typing import Final

from iose.protocols.i2c_exchange import (
    RETRIES,
    STATUS_SIZE,
    Exchange,
    FrameLink,
    Frames,
    wrong_kind,
)
from iose.protocols.i2c_frames import (
    BLOCK_IS_NOT_INFORMATION,
    BLOCK_MORE,
    BLOCK_SEQUENCE,
    ERROR_BITS,
    HEADER_SIZE,
    INF_LIMIT,
    RECEIVE_KIND,
    RECEIVE_SEQUENCE,
    SUPERVISORY_ANSWER,
    SUPERVISORY_KIND,
    BlockPcb,
    DeviceParameters,
    I2cFault,
    I2cFrame,
    I2cPeerError,
    Nad,
    ReceiveError,
    has_valid_crc,
)
from iose.wire.errors import DecodeError

OUTPUT_LIMIT: Final = 65_538  # an extended answer with its status word
_REQUESTS: Final = (BlockPcb.WAITING_TIME, BlockPcb.INFORMATION_SIZE)


class BlockProtocol:
    """A device that carries APDUs in blocks; its numbers live from one soft reset to the next.

    Args:
        transfer_size: Largest transfer of the host's adapter, in bytes.
    """

    apdu_limit: Final = OUTPUT_LIMIT

    def __init__(self, transfer_size: int) -> None:
        self._transfer_size = transfer_size
        self._begin(INF_LIMIT)

    def power_on(self, deadline: float) -> Exchange:
        """Reset the protocol; returns the historical bytes, b"" where there are none to be found.

        Raises:
            I2cPeerError: There is no answer, or not the right one.
        """
        self._begin(INF_LIMIT)
        inf = yield from self._supervise(BlockPcb.SOFT_RESET, deadline)
        try:
            parameters = DeviceParameters.decode(inf)
        except DecodeError:  # another maker's: T=1 works without
            parameters = DeviceParameters()
        self._begin(parameters.information_size)
        return parameters.historical_bytes

    def exchange(self, command: bytes, deadline: float) -> Exchange:
        """Carry one APDU, in as many blocks as it takes; returns the answer, status word included.

        Raises:
            I2cPeerError: There is no answer, or not the right one.
        """
        link = self._link(deadline)
        answer = yield from self._send(link, command)
        data = answer.inf
        while answer.pcb & BLOCK_MORE:
            answer = yield from self._talk(link, self._acknowledgement())
            data += answer.inf
            if len(data) > OUTPUT_LIMIT:
                raise I2cPeerError(I2cFault.MALFORMED, "an answer is too long")
        if len(data) < STATUS_SIZE:
            raise I2cPeerError(I2cFault.MALFORMED, "an answer has no status word")
        return data

    def probe(self, deadline: float) -> Exchange:
        """Set the numbers of blocks back, which changes nothing in the element.

        Raises:
            I2cPeerError: There is no answer, or not the right one.
        """
        inf = yield from self._supervise(BlockPcb.RESYNCHRONIZE, deadline)
        self._sequence = self._expected = 0
        return inf

    def _begin(self, information_size: int) -> None:
        self._sequence = 0
        self._expected = 0
        self._information_size = information_size

    def _link(self, deadline: float) -> FrameLink:
        return FrameLink(self._transfer_size, deadline, poll_size=HEADER_SIZE, is_silence_busy=True)

    def _supervise(self, request: BlockPcb, deadline: float) -> Exchange:
        link = self._link(deadline)
        for _ in range(RETRIES + 1):
            yield from link.send(I2cFrame(Nad.HOST, request))
            data = yield from link.receive()
            if not has_valid_crc(data):
                continue
            frame = I2cFrame.decode(data)
            if frame.pcb == request | SUPERVISORY_ANSWER:
                return frame.inf
            if not _is_receive(frame):
                raise wrong_kind(frame)
        raise I2cPeerError(I2cFault.BAD_CRC, "a request or its answer is always damaged")

    def _send(self, link: FrameLink, command: bytes) -> Frames:
        """Send a command; returns the first block of its answer.

        Raises:
            I2cPeerError: There is none, or it comes too early.
        """
        start = 0
        while True:
            stop = start + self._information_size  # which the device may change on the way
            is_last = stop >= len(command)
            pcb = (BLOCK_SEQUENCE if self._sequence else 0) | (0 if is_last else BLOCK_MORE)
            block = I2cFrame(Nad.HOST, pcb, command[start:stop])
            self._sequence ^= 1
            answer = yield from self._talk(link, block)
            is_block = not answer.pcb & BLOCK_IS_NOT_INFORMATION
            if is_block is not is_last:
                raise I2cPeerError(I2cFault.MALFORMED, "the device answers at the wrong moment")
            if is_last:
                return answer
            start = stop

    def _talk(self, link: FrameLink, block: I2cFrame) -> Frames:
        """Send one block; returns the I-block that answers it, or the R-block that takes it.

        Raises:
            I2cPeerError: Too many tries; what comes is no answer.
        """
        repeats = complaints = 0
        said = block
        fault = I2cFault.BAD_CRC
        while repeats <= RETRIES and complaints <= RETRIES:
            yield from link.send(said)
            data = yield from link.receive()
            if not has_valid_crc(data):
                complaints += 1
                fault = I2cFault.BAD_CRC
                said = self._complaint(ReceiveError.CRC)
                continue
            frame = I2cFrame.decode(data)
            if frame.pcb & SUPERVISORY_KIND == SUPERVISORY_KIND:
                said = self._answer_to(frame)
            elif _is_receive(frame):
                repeats += 1
                fault = I2cFault.REFUSED
                if _wants(frame, block):
                    said = block
                elif block.pcb & BLOCK_MORE and not _is_complaint_of(frame, said):
                    return frame
                elif said is block:  # it is there, and may have been carried out: never again
                    said = self._complaint(ReceiveError.OTHER)
            elif bool(frame.pcb & BLOCK_SEQUENCE) == bool(self._expected):
                self._expected ^= 1
                return frame
            else:
                complaints += 1
                fault = I2cFault.MALFORMED
                said = self._complaint(ReceiveError.OTHER)
        raise I2cPeerError(fault, _GIVEN_UP[fault])

    def _answer_to(self, request: I2cFrame) -> I2cFrame:
        if request.pcb not in _REQUESTS or len(request.inf) != 1:
            raise wrong_kind(request)
        if request.pcb == BlockPcb.INFORMATION_SIZE:
            if not 0 < request.inf[0] <= INF_LIMIT:
                raise I2cPeerError(I2cFault.MALFORMED, f"blocks of {request.inf[0]} bytes")
            self._information_size = request.inf[0]
        return I2cFrame(Nad.HOST, request.pcb | SUPERVISORY_ANSWER, request.inf)

    def _acknowledgement(self) -> I2cFrame:
        return self._complaint(ReceiveError.NONE)

    def _complaint(self, error: ReceiveError) -> I2cFrame:
        number = RECEIVE_SEQUENCE if self._expected else 0
        return I2cFrame(Nad.HOST, RECEIVE_KIND | number | error)


def _is_receive(frame: I2cFrame) -> bool:
    return frame.pcb & SUPERVISORY_KIND == RECEIVE_KIND


def _wants(answer: I2cFrame, block: I2cFrame) -> bool:
    """Return whether an R-block asks for ``block``, or ``block`` is an R-block of ours."""
    if _is_receive(block):
        return True
    return bool(answer.pcb & RECEIVE_SEQUENCE) == bool(block.pcb & BLOCK_SEQUENCE)


def _is_complaint_of(answer: I2cFrame, said: I2cFrame) -> bool:
    """Return whether an R-block says that our answer to an S-block arrived damaged."""
    is_answer = said.pcb & SUPERVISORY_KIND == SUPERVISORY_KIND
    return is_answer and bool(answer.pcb & ERROR_BITS)


_GIVEN_UP: Final = {
    I2cFault.BAD_CRC: "every answer has a wrong CRC",
    I2cFault.REFUSED: "the device does not take a block",
    I2cFault.MALFORMED: "blocks come in the wrong order",
}
