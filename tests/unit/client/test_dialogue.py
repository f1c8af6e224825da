# SPDX-License-Identifier: Apache-2.0
"""A conversation with a scripted element: sessions, answers, failures, and the change of key."""

import itertools

import pytest

from iose.client import commands
from iose.client.access import Access
from iose.client.blocking import Element
from iose.client.credentials import Credential, CredentialsStore
from iose.client.dialogue import Dialogue
from iose.client.errors import (
    AnswerError,
    AuthenticationError,
    CredentialsError,
    ElementBusyError,
    HandshakeError,
    KeystoreError,
    PskChangeError,
    SessionClosedError,
    SessionTimeoutError,
    UnknownNameError,
    UnreachableError,
)
from iose.client.uri import ElementUri
from iose.wire.errors import LocalProtocolError
from tests.support.scripted_element import CLOSE, CUT, SILENCE, ScriptedElement

OLD = bytes(range(1, 33))
NEW = bytes(range(33, 65))
URI = ElementUri.decode("keyS://key1.com@127.0.0.1:8888/")


@pytest.fixture
def store(tmp_path):
    return CredentialsStore(tmp_path / "credentials")


@pytest.fixture
def dial(store):
    def make(scripted, psk=OLD, *, pending=None, identity="Client_identity"):
        credential = Credential(URI.address, psk, identity=identity, pending_psk=pending)
        if pending is not None:
            store.save(credential)
        return Element(Dialogue(Access(URI, credential, store), scripted.open_link, 5.0))

    return make


def test_a_client_hello_fits_the_buffer_of_a_chip(dial):
    scripted = ScriptedElement(OLD)
    dial(scripted).open()
    hello = scripted.links[0].hello
    assert len(hello) <= 240  # one APDU, and far below 512 bytes
    assert b"key1.com" in hello


def test_asks_and_answers(dial):
    element = dial(ScriptedElement(OLD))
    with element:
        element.open()
        assert element.version() == "scripted"
        assert element.command("?00") == b"scripted"
        assert len(element.handshake_secret) == 32
        assert element.uri is URI
    assert element.handshake_secret is None


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
def test_answers_come_in_any_pieces(dial, piece):
    scripted = ScriptedElement(OLD)
    scripted.piece = piece
    element = dial(scripted)
    element.open()
    assert element.version() == "scripted"


def test_an_answer_may_take_several_records(dial):
    scripted = ScriptedElement(OLD, lambda _line: [b"scr", b"ipt", b"ed\r", b"\n"])
    element = dial(scripted)
    element.open()
    assert element.version() == "scripted"


def test_an_answer_may_end_with_a_bare_line_feed(dial):
    element = dial(ScriptedElement(OLD, lambda _line: b"scripted\n"))
    element.open()
    assert element.version() == "scripted"


def test_a_method_has_the_name_and_words_of_its_command(dial):
    element = dial(ScriptedElement(OLD))
    assert element.sign.__doc__ == Element.sign.__doc__ == commands.sign.__doc__
    assert element.sign.__name__ == "sign"


@pytest.mark.parametrize("where", ["handshake", "answer"])
def test_an_interruption_closes_the_session(dial, where):
    def interrupt(_line):
        raise KeyboardInterrupt

    scripted = ScriptedElement(OLD, interrupt)
    element = dial(scripted)
    if where == "handshake":
        scripted.links_fail_with = KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            element.open()
    else:
        element.open()
        with pytest.raises(KeyboardInterrupt):
            element.version()
    assert scripted.links[0].is_closed
    with pytest.raises(SessionClosedError):
        element.version()


def test_an_interrupted_change_of_key_is_settled_by_the_next_session(dial, store):
    def obey_and_interrupt(line):
        scripted.obey(line)
        raise KeyboardInterrupt

    scripted = ScriptedElement(OLD, obey_and_interrupt)
    element = dial(scripted)
    element.open()
    with pytest.raises(KeyboardInterrupt):
        element.change_psk(NEW)
    assert store.find(URI.address).candidates == (NEW, OLD)
    scripted.answer = scripted.obey
    element.open()
    assert element.has_psk(NEW)
    assert store.find(URI.address).candidates == (NEW,)


def test_closing_says_so_and_is_harmless_twice(dial):
    scripted = ScriptedElement(OLD)
    element = dial(scripted)
    element.open()
    element.close()
    element.close()
    assert scripted.links[0].saw_close_notify
    assert scripted.links[0].is_closed


def test_opening_twice_keeps_the_session(dial):
    scripted = ScriptedElement(OLD)
    element = dial(scripted)
    element.open()
    element.open()
    assert len(scripted.links) == 1


def test_a_wrong_key_is_an_authentication_error(dial):
    with pytest.raises(AuthenticationError) as caught:
        dial(ScriptedElement(OLD), psk=NEW).open()
    assert "PSK" in caught.value.hint


def test_a_wrong_identity_looks_like_a_wrong_key(dial):
    with pytest.raises(AuthenticationError):
        dial(ScriptedElement(OLD), identity="nobody").open()


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ("15030300020270", UnknownNameError),
        ("1503030002026D", UnknownNameError),
        ("15030300020250", ElementBusyError),
        ("15030300020233", AuthenticationError),
        ("15030300020273", AuthenticationError),
        ("15030300020228", AuthenticationError),
        ("15030300020214", AuthenticationError),
        ("1503030002022F", AuthenticationError),
        ("15030300020231", AuthenticationError),
        ("15030300020216", HandshakeError),
        ("150303000202FE", HandshakeError),
        ("", HandshakeError),
        ("485454502F312E31", HandshakeError),
    ],
)
@pytest.mark.parametrize("piece", [1, 100])
def test_a_refusal_is_told_with_a_next_step(dial, refusal, error, piece):
    scripted = ScriptedElement(OLD)
    scripted.refusal = bytes.fromhex(refusal)
    scripted.piece = piece
    with pytest.raises(HandshakeError) as caught:
        dial(scripted).open()
    assert type(caught.value) is error
    assert caught.value.hint
    assert scripted.links[0].is_closed


@pytest.mark.parametrize(
    "fault",
    [
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError("timed out"),
        OSError(-2, "Name or service not known"),
    ],
)
def test_an_unreachable_host_is_told_with_a_next_step(dial, fault):
    scripted = ScriptedElement(OLD)
    scripted.unreachable = fault
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1 port 8888") as caught:
        dial(scripted).open()
    assert "node" in caught.value.hint


def test_error_leaves_the_session_open(dial):
    element = dial(ScriptedElement(OLD))
    element.open()
    with pytest.raises(KeystoreError):
        element.public_key(0)
    assert element.version() == "scripted"


@pytest.mark.parametrize("ending", [CLOSE, CUT])
def test_a_session_closed_instead_of_an_answer_is_told(dial, ending):
    element = dial(ScriptedElement(OLD, lambda _line: ending))
    element.open()
    with pytest.raises(SessionClosedError) as caught:
        element.command("?99")
    assert caught.value.command_sent
    assert caught.value.hint
    with pytest.raises(SessionClosedError) as caught:
        element.version()
    assert not caught.value.command_sent


def test_a_session_closed_while_idle_is_noticed_before_the_command_is_sent(dial):
    scripted = ScriptedElement(OLD)
    element = dial(scripted)
    element.open()
    scripted.links[0].end_by_itself()
    with pytest.raises(SessionClosedError) as caught:
        element.version()
    assert not caught.value.command_sent
    assert scripted.lines == []
    element.open()
    assert element.version() == "scripted"


def test_an_answer_that_comes_with_the_close_is_not_lost(dial):
    scripted = ScriptedElement(OLD)

    def last_words(_line):
        scripted.links[0].engine.send_data(b"bye\r\n")
        return CLOSE

    scripted.answer = last_words
    element = dial(scripted)
    element.open()
    assert element.command(".?00") == b"bye"
    with pytest.raises(SessionClosedError):
        element.version()


def test_no_answer_in_time_closes_the_session(dial):
    scripted = ScriptedElement(OLD, lambda _line: SILENCE)
    element = dial(scripted)
    element.open()
    with pytest.raises(SessionTimeoutError, match="no answer within 5 s"):
        element.version()
    assert scripted.links[0].is_closed


def test_an_unfinished_answer_does_not_become_the_next_one(dial):
    scripted = ScriptedElement(OLD, lambda _line: b"half")
    element = dial(scripted)
    element.open()
    with pytest.raises(SessionTimeoutError):
        element.version()
    scripted.answer = scripted.obey
    element.open()
    assert element.version() == "scripted"


def test_an_answer_nobody_asked_for_ends_the_session(dial):
    scripted = ScriptedElement(OLD)
    element = dial(scripted)
    element.open()
    scripted.links[0].say(b"hello\r\n")
    with pytest.raises(AnswerError):
        element.version()
    assert scripted.links[0].is_closed


def test_an_endless_answer_ends_the_session(dial):
    element = dial(ScriptedElement(OLD, lambda _line: [b"x" * 16_000] * 5))
    element.open()
    with pytest.raises(AnswerError, match="65536"):
        element.version()


@pytest.mark.parametrize("answer", [b"OK\r\n", b"04\r\n04\r\n", b"\r\n", b"zz" * 65 + b"\r\n"])
def test_an_answer_of_the_wrong_form_ends_the_session(dial, answer):
    scripted = ScriptedElement(OLD, lambda _line: answer)
    element = dial(scripted)
    element.open()
    with pytest.raises(AnswerError):
        element.public_key(0)
    assert scripted.links[0].is_closed
    with pytest.raises(SessionClosedError):
        element.version()


def test_who_sends_without_end_is_given_up_in_time(dial, monkeypatch):
    clock = itertools.count(0.0, 0.5)
    monkeypatch.setattr("iose.client.dialogue.time.monotonic", lambda: next(clock))
    scripted = ScriptedElement(OLD, lambda _line: [*[b"x"] * 30, b"\n"])
    element = dial(scripted)
    element.open()
    scripted.piece = 23  # one record at a time
    with pytest.raises(SessionTimeoutError):
        element.version()


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf"), 86_401.0])
def test_a_timeout_is_a_time(timeout_s, store):
    credential = Credential(URI.address, OLD)
    with pytest.raises(LocalProtocolError, match="expected a timeout"):
        Dialogue(Access(URI, credential, store), ScriptedElement(OLD).open_link, timeout_s)


@pytest.mark.parametrize("piece", [65_536, 200_000])
@pytest.mark.parametrize("end", [b"tail\r\n", CLOSE])
def test_what_follows_an_endless_answer_is_not_an_answer(dial, piece, end):
    scripted = ScriptedElement(OLD)

    def flood(_line):
        for _ in range(5):
            scripted.links[0].engine.send_data(b"x" * 16_000)
        return end

    scripted.answer, scripted.piece = flood, piece
    element = dial(scripted)
    element.open()
    with pytest.raises(AnswerError, match="65536"):
        element.version()


def test_an_answer_keeps_its_blanks(dial):
    element = dial(ScriptedElement(OLD, lambda _line: b" a \r\r\n"))
    element.open()
    assert element.read_record(0) == b" a \r"


def test_who_breaks_tls_is_told_so_by_an_alert(dial):
    scripted = ScriptedElement(OLD)

    def break_tls(_line):
        scripted.links[0].pending += bytes.fromhex("1703030020") + bytes(32)
        return SILENCE

    scripted.answer = break_tls
    element = dial(scripted)
    element.open()
    with pytest.raises(SessionClosedError, match="TLS broke") as caught:
        element.version()
    assert caught.value.command_sent
    assert scripted.links[0].alert is not None


def test_a_line_longer_than_a_record_is_refused_and_the_session_goes_on(dial):
    element = dial(ScriptedElement(OLD))
    element.open()
    with pytest.raises(LocalProtocolError, match="16382"):
        element.command(b"x" * 16_383)
    assert element.version() == "scripted"


def test_changing_the_key_confirms_it_by_a_new_session_and_keeps_it(dial, store):
    scripted = ScriptedElement(OLD)
    element = dial(scripted)
    element.open()
    element.change_psk(NEW)
    assert scripted.psk == NEW
    assert len(scripted.links) == 2
    assert element.version() == "scripted"
    assert element.has_psk(NEW)
    assert store.find(URI.address) == Credential(URI.address, NEW)


def test_a_change_takes_a_random_key_by_default(dial, store):
    scripted = ScriptedElement(OLD)
    element = dial(scripted)
    element.open()
    element.change_psk()
    assert store.find(URI.address).psk == scripted.psk != OLD


def test_both_keys_are_written_down_before_the_element_is_asked(dial, store):
    scripted = ScriptedElement(OLD)
    element = dial(scripted)
    element.open()
    seen = []

    def answer(line):
        seen.append(store.find(URI.address).candidates)
        return scripted.obey(line)

    scripted.answer = answer
    element.change_psk(NEW)
    assert seen == [(NEW, OLD)]


@pytest.mark.parametrize("ending", [CUT, SILENCE, b"nonsense\r\n"])
@pytest.mark.parametrize("is_obeyed", [True, False])
def test_a_lost_answer_is_settled_by_the_next_session(dial, store, ending, is_obeyed):
    scripted = ScriptedElement(OLD)

    def answer(line):
        if is_obeyed:
            scripted.obey(line)
        return ending

    scripted.answer = answer
    element = dial(scripted)
    element.open()
    if is_obeyed:
        element.change_psk(NEW)
    else:
        with pytest.raises(PskChangeError, match="kept its old PSK"):
            element.change_psk(NEW)
    assert store.find(URI.address).candidates == ((NEW,) if is_obeyed else (NEW, OLD))
    assert element.has_psk(scripted.psk)
    assert element.is_change_lost is not is_obeyed


def test_both_keys_stay_while_nobody_answers(dial, store):
    scripted = ScriptedElement(OLD)

    def answer(line):
        scripted.obey(line)
        scripted.unreachable = ConnectionRefusedError(111, "Connection refused")
        return CUT

    scripted.answer = answer
    element = dial(scripted)
    element.open()
    with pytest.raises(PskChangeError, match="not known yet") as caught:
        element.change_psk(NEW)
    assert str(store.path) in caught.value.hint
    assert store.find(URI.address).candidates == (NEW, OLD)
    scripted.unreachable, scripted.answer = None, scripted.obey
    element.open()
    assert store.find(URI.address).candidates == (NEW,)


def test_a_refused_change_forgets_the_new_key(dial, store):
    element = dial(ScriptedElement(OLD, lambda _line: b"ERROR\r\n"))
    element.open()
    with pytest.raises(KeystoreError):
        element.change_psk(NEW)
    assert store.find(URI.address).candidates == (OLD,)


def test_a_pending_change_is_settled_by_the_new_key(dial, store):
    dial(ScriptedElement(NEW), pending=NEW).open()
    assert store.find(URI.address).candidates == (NEW,)


def test_a_new_key_is_not_given_up_because_somebody_answers_to_the_old_one(dial, store):
    element = dial(ScriptedElement(OLD), pending=NEW)
    element.open()
    assert element.has_psk(OLD)
    assert store.find(URI.address).candidates == (NEW, OLD)


def test_a_change_that_was_not_confirmed_is_asked_for_again(dial, store):
    scripted = ScriptedElement(OLD)
    element = dial(scripted, pending=NEW)
    element.open()
    element.change_psk()
    assert scripted.psk == NEW
    assert store.find(URI.address).candidates == (NEW,)


def test_another_key_is_not_tried_at_a_node_that_does_not_know_the_name(dial, store):
    scripted = ScriptedElement(OLD)
    scripted.refusal = bytes.fromhex("15030300020270")
    with pytest.raises(UnknownNameError):
        dial(scripted, pending=NEW).open()
    assert len(scripted.links) == 1
    assert store.find(URI.address).candidates == (NEW, OLD)


def test_a_pending_change_survives_when_neither_key_works(dial, store):
    with pytest.raises(AuthenticationError):
        dial(ScriptedElement(bytes(32)), pending=NEW).open()
    assert store.find(URI.address).candidates == (NEW, OLD)


def test_an_idle_program_does_not_forget_the_key_another_one_has_set(dial, store):
    scripted = ScriptedElement(OLD)
    idle, busy = dial(scripted), dial(scripted)
    idle.open()
    scripted.links[0].end_by_itself()
    busy.open()
    busy.change_psk(NEW)
    with pytest.raises(CredentialsError, match="another PSK"):
        idle.change_psk(bytes(32))
    assert store.find(URI.address).candidates == (NEW,)
    assert scripted.psk == NEW


def test_a_refusal_does_not_undo_what_another_program_wrote_down_meanwhile(dial, store):
    def answer(_line):
        store.save(Credential(URI.address, bytes(32)))
        return b"ERROR\r\n"

    element = dial(ScriptedElement(OLD, answer))
    element.open()
    with pytest.raises(KeystoreError):
        element.change_psk(NEW)
    assert store.find(URI.address).candidates == (bytes(32),)
    assert element.has_psk(OLD)


def test_a_late_confirmation_does_not_undo_a_newer_change(dial, store):
    element = dial(ScriptedElement(NEW), pending=NEW)
    newer = Credential(URI.address, NEW, pending_psk=bytes(32))
    store.save(newer)
    element.open()
    assert store.find(URI.address) == newer
    assert element.has_psk(NEW)


def test_a_session_whose_key_cannot_be_written_down_is_closed(dial, store):
    scripted = ScriptedElement(NEW)
    element = dial(scripted, pending=NEW)
    store.path.write_text("not credentials")
    with pytest.raises(CredentialsError):
        element.open()
    assert all(link.is_closed for link in scripted.links)
    assert element.handshake_secret is None


def test_nothing_is_asked_when_the_keys_cannot_be_written_down(dial, store):
    scripted = ScriptedElement(OLD)
    element = dial(scripted)
    element.open()
    store.path.write_text("not credentials")
    store.path.chmod(0o600)
    with pytest.raises(CredentialsError):
        element.change_psk(NEW)
    assert scripted.lines == []
    assert element.version() == "scripted"


@pytest.mark.parametrize("new", [OLD, bytes(31)])
def test_a_new_key_must_be_new_and_whole(dial, new):
    scripted = ScriptedElement(OLD)
    element = dial(scripted)
    element.open()
    with pytest.raises(LocalProtocolError):
        element.change_psk(new)
    assert scripted.lines == []


def test_the_key_is_not_changed_without_a_session(dial, store):
    with pytest.raises(SessionClosedError):
        dial(ScriptedElement(OLD)).change_psk(NEW)
    assert store.credentials() == []


def test_a_session_closed_before_the_change_is_asked_keeps_the_old_key(dial, store):
    scripted = ScriptedElement(OLD)
    element = dial(scripted)
    element.open()
    scripted.links[0].end_by_itself()
    with pytest.raises(SessionClosedError):
        element.change_psk(NEW)
    assert store.find(URI.address).candidates == (OLD,)


def test_commands_are_values_that_any_element_runs(dial):
    element = dial(ScriptedElement(OLD))
    element.open()
    assert element.run(commands.version()) == "scripted"
