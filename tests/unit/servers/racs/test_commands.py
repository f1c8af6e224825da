# SPDX-License-Identifier: Apache-2.0
"""What each command does and answers, over TLS (racs.md §5, §6, §7)."""

import pytest

from iose.servers.racs.policy import Rule
from iose.transport.errors import CardRemovedError, NoCardError, NotSentError
from iose.wire.errors import StoreError
from tests.support.racs_server import SELECT, RacsRig, canned, software

pytestmark = pytest.mark.anyio

POWERON = "POWERON key1"


async def test_a_session_with_a_software_element():
    async with RacsRig(software("key1")) as rig:
        client = await rig.connect()
        assert await client.ask("LIST") == "+004 001 key1 "
        answer = await client.ask(
            POWERON, f"APDU key1 {SELECT} APPEND", "APDU key1 00200000-04:30303030"
        )
        assert answer == "+006 002 9000|+006 003 9000"
        random = await client.data("APDU key1 008b000008")
        assert len(random) == 20
        assert random == random.upper()
        assert await client.code("SHUTDOWN key1") == "+007"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("GET-VERSION", "+002 001 0.3"),
        ("SET-VERSION 0.2", "+003 001 version 0.2 is running"),
        ("SET-VERSION 0.3", "+003 001 version 0.3 is running"),
        ("ECHO hello world", "+009 001 hello"),
        ("LIST now", "+004 001 key1 "),
        ("QUIT", "+012 001 QUIT"),
        ("XEND", "+012 001 XEND"),
        ("GET-SEN key1", "+011 001 key1.com [AID= default]"),
        ("SHUTDOWN key1", "+007 001 key1 has been powered off"),
    ],
)
async def test_what_needs_no_element(line, answer):
    async with RacsRig() as rig:
        client = await rig.connect()
        assert await client.ask(line) == answer


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("SET-VERSION", "-503"),
        ("SET-VERSION 9.9", "-403"),
        ("ECHO", "-509"),
        ("RESET", "-505"),
        ("RESET nosuch", "-405"),
        ("RESET key1", "-305"),
        ("RESET key1 HOT", "-405"),
        ("APDU", "-506"),
        ("APDU key1", "-506"),
        ("APDU nosuch", "-506"),
        ("APDU nosuch zz", "-506"),
        ("APDU key1 zz", "-506"),
        ("APDU key1 00A4040", "-506"),
        ("APDU key1 00A404", "-506"),
        ("APDU key1 00A40400 MORE=6", "-506"),
        ("APDU key1 00A40400 00", "-506"),
        ("APDU nosuch 00A40400", "-406"),
        ("APDU key1 00A40400", "-306"),
        ("SHUTDOWN", "-507"),
        ("SHUTDOWN nosuch", "-407"),
        ("POWERON", "-508"),
        ("POWERON nosuch", "-408"),
        ("POWERON KEY1", "-408"),
        ("SEN", "-510"),
        ("SEN nosuch", "-410"),
        ("SEN key1 sixteen-letters.", "-510"),
        ("SEN key1 name zz", "-510"),
        ("GET-SEN", "-511"),
        ("GET-SEN nosuch", "-411"),
        ("GET-SEN key2", "-911"),
        ("FOO", "-100"),
        ("poweron key1", "-100"),
        ("ECHO \x07", "-509"),
        ("ECHO " + "x " * 32, "-509"),
    ],
)
async def test_what_goes_wrong_has_its_code_and_the_session_goes_on(line, code):
    async with RacsRig(canned("key1"), canned("key2")) as rig:
        client = await rig.connect()
        assert await client.code("LIST APPEND", line, "LIST") == code
        assert await client.code("LIST") == "+004"


async def test_power_comes_with_poweron_and_goes_with_shutdown():
    async with RacsRig() as rig:
        client = await rig.connect()
        assert await client.code(POWERON) == "+008"
        assert await client.ask(POWERON) == "+008 001 warning, key1 was powered on already"
        assert rig.card.power == ["on"]
        assert await client.code("SHUTDOWN key1") == "+007"
        assert rig.card.power == ["on", "off"]
        assert await client.code("APDU key1 00A40400") == "-306"
        assert rig.holders.lock("key1").holder is None


async def test_a_reset_is_cold_unless_warm_and_forgets_what_was_selected():
    rules = [Rule("admin", ("*",), ("*",), ("isd",))]
    async with RacsRig(rules=rules) as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        for line, power in (("RESET key1 WARM", ["reset"]), ("RESET key1", ["off", "on"])):
            assert await client.code("APDU key1 00A40400") == "+006"
            assert await client.code("APDU key1 00B00000") == "+006"
            del rig.card.power[:]
            assert await client.code(line) == "+005"
            assert rig.card.power == power
            assert await client.code("APDU key1 00B00000") == "-606"


async def test_the_parts_of_an_answer_are_fetched_when_that_is_asked():
    answers = {
        "00D80000": "01026104",
        "00C0000004": "030461FF",
        "00C00000FF": "05" * 255 + "6110",
        "00C0000010": "06" * 16 + "6A80",
    }
    async with RacsRig(canned("key1", answers)) as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        assert await client.data("APDU key1 00D80000") == "01026104"
        whole = "01020304" + "05" * 255 + "06" * 16 + "6A80"
        assert await client.data("APDU key1 00D80000 MORE=61") == whole
        assert await client.data("APDU key1 00D80000 MORE=9F") == "01026104"
        refused = await client.ask("APDU key1 00D80000 MORE=61 CONTINUE=9000")
        assert refused == "-006 001 6A80 unexpected status word"


async def test_the_command_that_fetches_may_be_another():
    answers = {"A0D80000": "9F02", "A0C0000002": "AABB9000"}
    async with RacsRig(canned("key1", answers)) as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        line = "APDU key1 A0D80000 MORE=9F FETCH=A0C00000"
        assert await client.data(line) == "AABB9000"


async def test_what_fetches_is_judged_like_any_other_command():
    rules = [Rule("admin", ("*",), ("*",), ("default",))]
    async with RacsRig(canned("key1", {"00D80000": "6100"}), rules=rules) as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        for fetch in ("00A40400", "00200000", "00700000", "01C00000"):
            line = f"APDU key1 00D80000 MORE=61 FETCH={fetch}"
            assert await client.code(line) == "-606"
        assert set(rig.card.commands) == {"00D80000"}


@pytest.mark.parametrize(
    ("command", "answers", "sent"),
    [
        ("008B000000", {"008B000000": "6C04"}, ["008B000000", "008B000004"]),
        ("008B000000", {"008B000000": "6C00"}, ["008B000000"]),
        ("008B0000", {"008B0000": "6C04"}, ["008B0000"]),
        ("008B00000101", {"008B00000101": "6C04"}, ["008B00000101"]),
        ("008B000000", {"008B000000": "016C04"}, ["008B000000"]),
    ],
)
async def test_a_wrong_length_is_corrected_where_there_are_five_bytes(command, answers, sent):
    async with RacsRig(canned("key1", answers)) as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        await client.data(f"APDU key1 {command}")
        assert rig.card.commands == sent


async def test_a_card_that_corrects_its_own_length_is_not_asked_for_ever():
    answers = {f"008B0000{size:02X}": f"6C{size + 1:02X}" for size in range(99)}
    async with RacsRig(canned("key1", answers)) as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        assert await client.data("APDU key1 008B000000") == "6C05"


async def test_continue_stops_a_request_at_another_status_word():
    async with RacsRig(canned("key1", {"00B00000": "6A82"})) as rig:
        client = await rig.connect()
        assert await client.ask(POWERON, "APDU key1 00B00000 CONTINUE=9000", "LIST") == (
            "-006 002 6A82 unexpected status word"
        )
        line = "APDU key1 00B00000 CONTINUE=6a82 APPEND"
        assert await client.ask(line, "LIST") == "+006 001 6A82|+004 002 key1 "


@pytest.mark.parametrize("answer", ["FF" * 100 + "6100", "6100"])
async def test_an_answer_that_grows_or_goes_on_for_ever_is_ended(answer):
    answers = {"00D80000": "6100", "00C0000000": answer}
    async with RacsRig(canned("key1", answers), response_limit=1000) as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        assert await client.code("APDU key1 00D80000 MORE=61") == "-906"
        assert await client.code("APDU key1 00B00000") == "+006"
        assert len(rig.card.commands) < 700


async def test_an_extended_answer_fits_and_a_response_is_bounded():
    answers = {"00B00000": "AB" * 65_536 + "9000"}
    async with RacsRig(canned("key1", answers)) as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        line = "APDU key1 00B00000 APPEND"
        assert len(await client.data(line)) == 131_076
        assert await client.code(*[line] * 7) == "+006"
        assert await client.code(*[line] * 8) == "-906"
        assert await client.code("LIST") == "+004"


async def test_an_extended_command_reaches_the_card():
    async with RacsRig() as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        command = "00D6000000FFFF" + "5A" * 65_535 + "0000"
        assert await client.data(f"APDU key1 {command}") == "9000"
        assert rig.card.commands == [command]


@pytest.mark.parametrize("fault", [CardRemovedError("key1", "gone"), StoreError("full")])
async def test_a_card_that_fails_is_released_and_the_session_goes_on(fault):
    async with RacsRig() as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        rig.card.faults = [fault]
        assert await client.code("APDU key1 00B00000") == "-806"
        assert rig.card.power == ["on", "off"]
        assert rig.holders.lock("key1").holder is None
        assert await client.code("APDU key1 00B00000") == "-306"
        assert await client.code(POWERON, "APDU key1 00B00000") == "+006"


async def test_a_command_that_the_reader_cannot_carry_costs_no_hold():
    async with RacsRig() as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        rig.card.faults = [NotSentError("key1", "too long")]
        assert await client.code("APDU key1 00B00000") == "-806"
        assert rig.card.power == ["on"]
        assert await client.code("APDU key1 00B00000") == "+006"


async def test_an_answer_without_a_status_word_is_a_failure():
    async with RacsRig(canned("key1", {"00B00000": "90"})) as rig:
        client = await rig.connect()
        assert await client.code(POWERON, "APDU key1 00B00000") == "-806"
        assert rig.holders.lock("key1").holder is None


async def test_a_card_that_does_not_start_is_released():
    async with RacsRig() as rig:
        client = await rig.connect()
        rig.card.faults = [NoCardError("key1", "no card")]
        assert await client.code(POWERON) == "-808"
        assert rig.holders.lock("key1").holder is None
        assert await client.code(POWERON) == "+008"
        rig.card.faults = [CardRemovedError("key1", "gone")]
        assert await client.code("RESET key1") == "-805"
        assert rig.holders.lock("key1").holder is None
        assert await client.code("RESET key1") == "-305"


async def test_a_bug_in_a_reader_costs_one_command():
    async with RacsRig() as rig:
        client = await rig.connect()
        await client.ask(POWERON)
        rig.card.faults = [ZeroDivisionError()]
        assert await client.ask("APDU key1 00B00000") == "-906 001 internal error"
        assert rig.holders.lock("key1").holder is None
        assert await client.code(POWERON) == "+008"


async def test_names_are_given_read_and_taken_back():
    async with RacsRig() as rig:
        client = await rig.connect()
        answer = await client.ask("SEN key1 key7.com 010203040500 APPEND", "GET-SEN key1")
        assert answer == (
            "+010 001 SEN= key7.com AID= 010203040500|+011 002 key7.com [AID= 010203040500]"
        )
        assert await client.data("SEN key1") == "SEN= key1.com AID= default"
        assert await client.data("SEN key1 key7.com APPEND") == "SEN= key7.com AID= default"
        assert await client.data("SEN key1 key7.com 00") == "SEN= null AID= default"
        rig.names.fault = StoreError("key7.com is the name of key2")
        assert await client.ask("SEN key1 key7.com") == "-910 001 key7.com is the name of key2"


async def test_a_name_is_given_to_what_one_holds_oneself():
    async with RacsRig() as rig:
        client, other = await rig.connect(), await rig.connect()
        await client.ask(POWERON)
        assert await client.code("SEN key1 a.b") == "+010"
        assert await other.code("SEN key1 a.b") == "-710"
        assert await client.code("APDU key1 00B00000") == "+006"


async def test_an_element_is_itself_under_each_of_its_names():
    async with RacsRig(canned("key1", aliases=("0", "999"))) as rig:
        client, other = await rig.connect(), await rig.connect()
        assert await client.code("POWERON 0", "APDU 999 00B00000", "POWERON key1") == "+008"
        assert await other.code("POWERON 999") == "-708"
        assert await client.code("SHUTDOWN 999") == "+007"
        assert [entry.event.seid for entry in rig.audit.of("POWERON")] == ["key1"] * 3


async def test_requests_in_one_piece_are_answered_in_order():
    async with RacsRig() as rig:
        client = await rig.connect()
        requests = "".join(f"BEGIN {n}\r\nECHO {n}\r\nEND\r\n" for n in range(200))
        client.send(requests.encode())
        for number in range(200):
            assert await client.block() == f"BEGIN {number}|+009 001 {number}|END"


async def test_a_request_may_come_byte_by_byte():
    async with RacsRig() as rig:
        client = await rig.connect()
        for byte in b"BEGIN b\nPOWERON key1\nEND\n":
            client.send(bytes((byte,)))
            await client.writer.drain()
        assert await client.block() == "BEGIN b|+008 001 key1 has been powered on|END"


async def test_an_error_comes_before_end_is_sent():
    async with RacsRig() as rig:
        client = await rig.connect()
        client.send(b"BEGIN early\r\nPOWERON nosuch\r\n")
        assert (await client.block()).startswith("BEGIN early|-408 001 ")
        client.send(b"LIST\r\nEND\r\nBEGIN after\r\nLIST\r\nEND\r\n")
        assert await client.block() == "BEGIN after|+004 001 key1 |END"


async def test_quit_says_goodbye():
    async with RacsRig() as rig:
        client = await rig.connect()
        client.send(b"BEGIN\r\nQUIT\r\nEND\r\nBEGIN\r\nEND\r\n")
        assert await client.rest() == b"BEGIN\r\n+012 001 QUIT\r\nEND\r\n"


async def test_broken_framing_is_told_and_ends_the_session():
    async with RacsRig() as rig:
        client = await rig.connect()
        client.send(b"LIST\r\nEND\r\n")
        answer = await client.rest()
        assert answer == b"BEGIN\r\n-300 000 expected BEGIN, found LIST\r\nEND\r\n"


async def test_a_name_that_an_element_says_forges_no_line():
    async with RacsRig(names={"key1": ("a\r\n+006 002 9000\r\nEND", "é")}) as rig:
        client = await rig.connect()
        assert await client.ask("GET-SEN key1") == "+011 001 a??+006 002 9000??END [AID= ?]"
        assert await client.ask("SEN key1") == "+010 001 SEN= a??+006 002 9000??END AID= ?"
