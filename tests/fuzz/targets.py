# SPDX-License-Identifier: Apache-2.0
"""Every decoder that meets bytes from outside, what it may raise, and well-formed inputs for it.

``test_decoders`` mutates the inputs and checks the list against the source: a decoder that is not
here, nor explained in ``INNER``, fails the suite.
"""

import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from typer import BadParameter

from iose import tls
from iose.applet_commands.key_pairs import KeySlot
from iose.applet_commands.psk import ElementPsk
from iose.applet_commands.psk_functions import read_pair
from iose.applets.security_domain import DomainParameters
from iose.applets.security_domain.state import DomainKeys
from iose.applets.tls_im import ModulePersonalisation
from iose.applets.tls_im.state import ModuleProfile
from iose.applets.tls_se import Personalisation, read_secrets
from iose.applets.tls_se.state import Profile, decode_settings
from iose.bridge.client_hello import handshake_size, read_server_name
from iose.bridge.stream import BridgeState, StreamBridge
from iose.card.registry import Registry, RegistryEntry
from iose.cli.card_files import read_fields
from iose.cli.card_options import read_key_file
from iose.cli.card_requests import parse_privileges
from iose.client import commands
from iose.client.attestation import Attestation, Evidence, Expectations
from iose.client.attestation.authority import load_authority, load_authority_key
from iose.client.cap_file import read_cap, write_cap
from iose.client.card.errors import CardManagementError
from iose.client.card.information import decode_production
from iose.client.card.inventory import decode_plain
from iose.client.card.key_files import PUBLISHED_KEYS, key_document, read_key_document
from iose.client.credentials import CredentialsStore
from iose.client.errors import (
    AnswerError,
    CredentialsError,
    ElementUriError,
    HandshakeError,
    KeystoreError,
)
from iose.client.module import decode_module
from iose.client.session import ElementSession
from iose.client.signature import decode_signature
from iose.client.uri import ElementUri, decode_psk
from iose.crypto import ec_keys, x509
from iose.crypto.base import Curve
from iose.crypto.errors import CryptoError
from iose.crypto.pyca import PycaCrypto
from iose.globalplatform import commands as card_commands
from iose.globalplatform import data_objects, install
from iose.globalplatform.channel import ChannelState, InitiateAnswer, ScpVariant, SecureChannelError
from iose.globalplatform.commands import StatusScope
from iose.globalplatform.keys import KeySet
from iose.globalplatform.life_cycle import Privilege
from iose.globalplatform.load_file import Component, LoadFile, ModuleMark
from iose.globalplatform.packages import build_package
from iose.globalplatform.put_key import PutKey
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr
from iose.iso7816.batch import ApduLimits
from iose.iso7816.status import StatusWordError
from iose.iso7816.t0 import T0Interface
from iose.iso7816.tlv import Tlv
from iose.protocols import attestation, host_frames, sim_array
from iose.protocols.attestation import SignedStatement, Statement
from iose.protocols.i2c_frames import DeviceParameters, I2cFrame, I2cPeerError
from iose.protocols.racs import racsl
from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.vpcd import DriverStream
from iose.runtime.audit_chain import (
    Head,
    decode_head,
    file_name,
    last_head,
    next_line,
    verify_log,
)
from iose.runtime.audit_view import Wanted, read_records
from iose.runtime.channel import JsonChannel
from iose.runtime.config import load_config, parse_address, read_config
from iose.runtime.elements import seal
from iose.runtime.elements.archive import (
    ARCHIVE_FORMAT,
    ARCHIVE_VERSION,
    SALT_SIZE,
    passphrase_key,
    read_archive_fields,
    read_archive_header,
)
from iose.runtime.elements.record import ElementRecord, Mark
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.folder import DataFolder
from iose.runtime.names import NAMES_FILE, read_names
from iose.runtime.packages import shipped_packages
from iose.runtime.racs_rules import read_psk
from iose.servers.racs.http_pages import HttpRefusedError
from iose.tls import AlertReceived, ClientEngine, ServerEngine, TlsPeerError, messages
from iose.wire.errors import DecodeError, IoseError, StoreError
from tests.fuzz import i2c, racs_client, racs_server
from tests.support.certificates import certified, request
from tests.support.channel_pair import CASES as CHANNELS
from tests.support.channel_pair import PLAIN as PLAIN_COMMAND
from tests.support.channel_pair import Pair as ChannelPair
from tests.support.client_hello import client_hello
from tests.support.element import Element, demo
from tests.support.engine_pair import EnginePair, client_config, server_config
from tests.support.identity_module import Module, demo_module

ARCHIVE_KEY = bytes(32)
PASSPHRASE = "a long passphrase"  # noqa: S105  # of nothing
HEADER = 4  # of a handshake message
RECORD_HEADER = 5
INSTALLS = (
    "InstallForLoad",
    "InstallForInstall",
    "MakeSelectable",
    "InstallForPersonalization",
    "RegistryUpdate",
)


@dataclass(frozen=True)
class Target:
    """One decoder.

    Attributes:
        decode: Takes bytes; what it returns does not matter.
        errors: All that may come out.
        seeds: Inputs that are right, or nearly.
        covers: Names in the source that this exercises, as ``room/file.py Name``.
    """

    decode: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    covers: tuple[str, ...]


def _hex(*texts: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(text) for text in texts)


def _text(decode: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: decode(data.decode("latin-1"))


def _file(read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def decode(data: bytes) -> object:
        with tempfile.NamedTemporaryFile() as file:  # mode 0600, as some readers ask for
            file.write(data)
            file.flush()
            return read(Path(file.name))

    return decode


def _json(decode: Callable[[object], object]) -> Callable[[bytes], object]:
    """Return a decoder of JSON values: what is no JSON is no input for it."""

    def work(data: bytes) -> object:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return None
        return decode(value) if isinstance(value, dict) else None

    return work


# --- what a handshake looks like ------------------------------------------------------------

_CLIENT = {"server_name": "key1.com", "alpn_protocols": (b"a",), "record_size_limit": 1_000}
_PAIR = EnginePair.make(client_config(**_CLIENT))
_PAIR.start()
_HELLO = messages.ClientHello.decode(_PAIR.client_records[0][RECORD_HEADER + HEADER :])
_SERVER_HELLO = _PAIR.server_records[0][RECORD_HEADER + HEADER :]
_HELLO_EXTENSIONS = tuple(_HELLO.extensions.values())


def _receive(engine: ClientEngine | ServerEngine, data: bytes) -> None:
    engine.start()
    engine.receive_data(data)
    engine.data_to_send()


def _join_messages(data: bytes) -> None:
    buffer = messages.HandshakeBuffer()
    for start in range(0, len(data), 7):
        buffer.append(data[start : start + 7])
        while buffer.next_message() is not None:
            pass


def _relay(data: bytes) -> None:
    bridge = StreamBridge()
    for start in range(0, len(data), 11):
        bridge.receive_data(data[start : start + 11])
        if bridge.state is BridgeState.ROUTING:
            bridge.attach(ApduLimits(240, 512))
        while batch := bridge.next_batch():
            # what the client sends is fed back as the element's answers
            bridge.receive_responses([ResponseApdu.decode(data[:40] + b"\x90\x00")] * len(batch))
        bridge.data_to_send()


def _drive(data: bytes) -> None:
    """Feed a virtual reader's card, T=0 at its contacts; the element answers with what came."""
    stream, interface = DriverStream(), T0Interface()
    for start in range(0, len(data), 11):
        stream.receive_data(data[start : start + 11])
        while (message := stream.next_message()) is not None:
            if isinstance(message, bytes) and interface.receive_command(message) is None:
                interface.receive_response(message, data[:40] + b"\x90\x00")


def _frames(data: bytes) -> None:
    splitter = host_frames.FrameSplitter()
    for frame in splitter.receive_data(data):
        host_frames.decode_request(frame)


def _talk(data: bytes) -> None:
    """Feed a control channel; whatever comes, it ends in order and the answers are lines."""

    async def serve() -> bytes:
        async def handle(_op: str, arguments: object) -> dict[str, object]:
            assert isinstance(arguments, dict)
            return {}

        near, far = await _joined_streams()
        channel = JsonChannel(*near, handler=handle)
        far[1].write(data)
        far[1].write_eof()
        await channel.serve()
        answer = await far[0].read()
        far[1].close()
        return answer

    for line in asyncio.run(serve()).splitlines():
        json.loads(line)


async def _joined_streams():
    import socket  # noqa: PLC0415  # only here

    ours, theirs = socket.socketpair()
    return (
        await asyncio.open_unix_connection(sock=ours),
        await asyncio.open_unix_connection(sock=theirs),
    )


def _session(data: bytes) -> None:
    session = ElementSession(client_config(**_CLIENT))
    session.receive_data(data)
    session.data_to_send()
    session.is_open()


_ELEMENT = Element(demo())
_OPEN_ELEMENT = Element(demo(is_final=False))  # its host may send it lines
_OPEN_CONTENTS = dict(_OPEN_ELEMENT.store.contents)


def _line(data: bytes) -> None:
    _OPEN_ELEMENT.verify_admin()
    header = b"\x00\xda\x00\xff\x00" + min(len(data), 0xFFFF).to_bytes(2, "big")
    assert len(_OPEN_ELEMENT.raw(header + data[:0xFFFF])) >= 2
    assert _OPEN_ELEMENT.faults == []


def _module_apdu(data: bytes) -> None:
    module = Module(demo_module())
    module.verify_admin()
    assert len(module.card.process(data)) >= 2
    assert module.faults == []
    blocks = Module(demo_module(is_final=False)).applet
    with contextlib.suppress(StatusWordError):
        blocks.receive_data(data, is_last=True)


def _personalise(data: bytes) -> None:
    Element(contents=_OPEN_CONTENTS).applet.receive_data(data, is_last=True)


def _stored(data: bytes) -> None:
    read_secrets(dict.fromkeys(_ELEMENT.store.contents, data))


def _sealed(data: bytes) -> object:
    """Open an archive whose content, not its seal, is hostile: who exports knows the passphrase."""
    return seal.decode_archive(_archive_of(data), ARCHIVE_KEY)


def _archive_of(content: bytes) -> bytes:
    """Return an export file with any content, sealed as it should be."""
    salt, nonce = bytes(SALT_SIZE), bytes(seal.NONCE_SIZE)
    header = {
        "format": ARCHIVE_FORMAT,
        "version": ARCHIVE_VERSION,
        "seid": "se-00000001",
        "export_id": "00" * 16,
        "copy": False,
        "salt": salt.hex(),
        "cost_log2": 1,
        "nonce": nonce.hex(),
    }
    aead = seal._aead(ARCHIVE_KEY)
    sealed = aead.encrypt(nonce, content, seal._canonical(header))
    return json.dumps({**header, "sealed": base64.b64encode(sealed).decode()}).encode()


def _cheap_key() -> bytes:
    """Return what a folder keeps of its key, made at the lowest cost."""
    found = {"salt": bytes(SALT_SIZE).hex(), "cost_log2": 1}
    nonce = bytes(seal.NONCE_SIZE)
    aead = seal._aead(passphrase_key(PASSPHRASE, found))
    wrapped = aead.encrypt(nonce, bytes(32), seal._DATA_KEY_LABEL)
    return json.dumps({**found, "nonce": nonce.hex(), "wrapped": wrapped.hex()}).encode()


_OBJECTS = dict(_ELEMENT.store.contents)
_CONTENT = json.dumps(
    {name: base64.b64encode(value).decode() for name, value in _OBJECTS.items()}
).encode()
_ARCHIVE = _archive_of(_CONTENT)
_CREDENTIALS = json.dumps(
    {
        "version": 2,
        "credentials": [
            {
                "sen": "key1.com",
                "host": "localhost",
                "port": 8888,
                "identity": "Client_identity",
                "psk": "00" * 32,
                "pending_psk": "11" * 32,
            },
            {
                "sen": "key2.com",
                "host": "localhost",
                "port": 8888,
                "identity": "Client_identity",
                "psk": None,
                "module": {"uri": "racs://host/se-1", "pki": "/pki", "pin": "30303030"},
            },
        ],
    }
).encode()
_CONFIG = b"""data = "/tmp/x"
elements = 3
hosts = 2
[front]
listen = ["127.0.0.1:8888", "[::1]:0"]
default_sen = "key1.com"
is_silent = false
handshake_s = 2.5
session_limit = 10
[element."key1.com"]
aliases = ["a.example"]
aid = "010203040500"
[log]
level = "info"
"""
_RECORD = json.dumps(ElementRecord("se-00000001", "key1.com", b"\x3b\x00").to_json()).encode()
_STATEMENT = Statement(
    *(b"key1.com", b"se-00000001", b"tls_se", b"1.0", bytes(32), 7, False, bytes(32), bytes(32)),
    public_key=bytes(65),
)
_SCALAR = bytes(31) + b"\x05"
_PUBLIC = PycaCrypto().public_key(Curve.SECP256K1, _SCALAR)
_EVIDENCE = (
    Evidence(
        Attestation(
            *("key1.com", "iose keystore/1", Expectations(_PUBLIC), _PUBLIC, bytes(64), bytes(32)),
            *(bytes(70), bytes(32), SignedStatement(_STATEMENT.encode(), bytes(70))),
        ),
        "2026-01-01T00:00:00+00:00",
    )
    .encode()
    .encode()
)
_POINT = b"04" + b"AB" * 64
_DER = "3006020101020101"


def _messages() -> dict[str, Target]:
    ee = bytes.fromhex("0008000A000400020017")
    ticket = bytes.fromhex("0000000100000002010A0003AABBCC0000")
    seeds: dict[str, tuple[Callable[[bytes], object], tuple[bytes, ...]]] = {
        "ClientHello": (messages.ClientHello.decode, (_HELLO.encode()[HEADER:],)),
        "ServerHello": (messages.ServerHello.decode, (_SERVER_HELLO,)),
        "EncryptedExtensions": (messages.EncryptedExtensions.decode, (ee,)),
        "Finished": (lambda data: messages.Finished.decode(data, 32), (bytes(32),)),
        "KeyUpdate": (messages.KeyUpdate.decode, (b"\0", b"\1")),
        "NewSessionTicket": (messages.NewSessionTicket.decode, (ticket,)),
    }
    errors = (DecodeError, TlsPeerError)
    return {
        f"handshake message {name}": Target(
            decode, errors, inputs, (f"tls/messages.py {name}.decode",)
        )
        for name, (decode, inputs) in seeds.items()
    }


def _extensions() -> dict[str, Target]:
    """Return a target for each class of an extension module that decodes."""
    kinds = {
        kind
        for name, module in vars(tls).items()
        if name.endswith("extensions")
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
        if hasattr(kind, "decode")
    }
    return {
        f"extension {kind.__name__}": Target(
            kind.decode,
            (DecodeError, TlsPeerError),
            (*_HELLO_EXTENSIONS, b"\x01", b"\x03\x04", b"\x00\x02ab", b"\x00\x1d\x00\x02ab"),
            (f"{_path_of(kind)} {kind.__name__}.decode",),
        )
        for kind in sorted(kinds, key=lambda kind: kind.__name__)
    }


def _path_of(kind: type) -> str:
    return kind.__module__.removeprefix("iose.").replace(".", "/") + ".py"


def _answers() -> dict[str, Target]:
    built = {
        "version": commands.version(),
        "echo": commands.echo(b"x"),
        "hex echo": commands.echo_bytes(b"x"),
        "certificate": commands.certificate(),
        "proof": commands.prove(b"x"),
        "OK": commands.generate_key(0),
        "flag": commands.is_key_sealed(0),
        "seed": commands.seed(0),
        "public key": commands.public_key(0),
        "signature": commands.sign(0, b"x", low_s=True),
        "record": commands.read_record(0),
        "HMAC": commands.hmac(0, b"x"),
        "AES": commands.aes_encrypt(0, bytes(16)),
        "line": commands.raw("p00"),
        "new PSK": commands.replace_psk(bytes(32), b"\xab" * 32),
    }
    seeds = (
        b"OK",
        b"ERROR",
        b"00",
        b"01",
        b"AB" * 32,
        b"00" * 64,
        _POINT,
        _DER.encode(),
        b"text",
        b"x",
        b"78",
        b"AB" * 16,
    )
    readers = ("text", "ok", "hex", "flag", "certificate", "signature", "point")
    covers = [f"client/codec.py read_{name}" for name in readers]
    covers.append("client/codec.py Command.read_answer")
    return {
        f"answer: {name}": Target(
            command.read_answer, (AnswerError, KeystoreError), seeds, tuple(covers)
        )
        for name, command in built.items()
    }


_CERTIFIED = certified()


def _holding(name: str, data: bytes) -> Path:
    """Return a folder that holds one file."""
    folder = Path(tempfile.gettempdir()) / f"iose-fuzz-{id(data):x}"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return folder


def _audit_lines(*entries: dict[str, object]) -> Iterator[bytes]:
    head = Head()
    for entry in entries:
        line, head = next_line(head, entry)
        yield line


def _audited(data: bytes) -> None:
    """Look at a log in every way there is; nothing in it may stop that."""
    folder = _holding(file_name(1), data)
    verify_log(folder)
    read_records(folder, Wanted())
    last_head(folder)


def _of_command(decode: Callable[[CommandApdu], object]) -> Callable[[bytes], object]:
    return lambda data: decode(CommandApdu.decode(data))


def _secured_command(data: bytes) -> None:
    """Give a card's end of each kind of channel a command that no host made."""
    command = CommandApdu.decode(data)
    for variant, level in CHANNELS:
        card = ChannelPair.make(variant, level).card
        with contextlib.suppress(SecureChannelError):
            card.unwrap(command)
        assert card.state is ChannelState.CLOSED


def _secured_answer(data: bytes) -> None:
    """Give a host's end of each kind of channel an answer that no card made."""
    response = ResponseApdu.decode(data)
    for variant, level in CHANNELS:
        host = ChannelPair.make(variant, level).host
        host.wrap(PLAIN_COMMAND)
        with contextlib.suppress(SecureChannelError):
            host.unwrap(response)


def _card_management() -> dict[str, Target]:
    """Return the targets of secure channels, card management and load files."""
    package = build_package(
        package_aid=Aid(b"12345"),
        applet_aids=[Aid(b"123456")],
        module="a",
        version=(1, 0),
        digest=bytes(32),
    )
    lv, empty = "050102030405", "00"
    key = "881110" + "00" * 16 + "03000000"
    wires: dict[str, tuple[Callable[[CommandApdu], object], tuple[str, ...]]] = {
        "LOAD": (card_commands.LoadBlock.from_command, ("80E8000001C400",)),
        "STORE DATA": (card_commands.StoreData.from_command, ("80E29000016100",)),
        "DELETE": (
            card_commands.read_delete,
            ("80E40000074F05010203040500", "80E4000006D00100D2013000"),
        ),
        "SET STATUS": (card_commands.SetStatus.from_command, ("80F0408305010203040500",)),
        "GET STATUS": (
            card_commands.GetStatus.from_command,
            ("80F21002084F005C044F9F70C500", "80F24002024F0000"),
        ),
        "PUT KEY": (PutKey.from_command, ("80D8008146" + "01" + key * 3 + "00",)),
        "INSTALL": (
            install.decode_install,
            (
                "80E602000A" + lv + empty * 4 + "00",
                "80E60C0018" + lv * 3 + "0104" + "02C900" + "00" + "00",
                "80E620000B" + empty * 2 + lv + empty * 3 + "00",
                "80E640000B" + empty * 2 + lv + empty * 3 + "00",
                "80E608000C" + empty * 2 + lv + "0100" + empty * 2 + "00",
            ),
        ),
    }
    covers = {
        "INSTALL": tuple(f"globalplatform/install.py {name}.decode" for name in INSTALLS),
    }
    targets = {
        name: Target(_of_command(decode), (DecodeError,), _hex(*seeds), covers.get(name, ()))
        for name, (decode, seeds) in wires.items()
    }
    entry = bytes.fromhex("E3154F060102030405009F700107C503040000CE020100")
    keys = bytes.fromhex("E012C00401308810C00402308810C00403308810")
    card_data = data_objects.CardData((ScpVariant(3, 0x70),)).encode()
    capability = data_objects.CardCapability((ScpVariant(3, 0x70),)).encode()
    plain: tuple[tuple[str, str, Callable[[bytes], object], bytes], ...] = (
        ("registry entry", "data_objects.py", data_objects.StatusEntry.decode, entry),
        ("registry entries", "data_objects.py", data_objects.StatusEntry.decode_all, entry * 2),
        ("key template", "data_objects.py", data_objects.decode_key_template, keys),
        ("card data", "data_objects.py", data_objects.CardData.decode, card_data),
        ("card capability", "data_objects.py", data_objects.CardCapability.decode, capability),
        ("privileges", "life_cycle.py", Privilege.decode, bytes(3)),
        ("components", "load_file.py", Component.decode_all, package.data),
        ("load file", "load_file.py", LoadFile.decode, package.data),
        ("mark", "load_file.py", ModuleMark.decode, ModuleMark("a", bytes(32)).encode()),
    )
    for name, file, decode, seed in plain:
        cover = f"globalplatform/{file} {decode.__qualname__}"
        targets[f"card: {name}"] = Target(decode, (DecodeError,), (seed,), (cover,))
    secured = _hex("84F240020A4F00" + "00" * 8 + "00", "84F2400212" + "00" * 18)
    answers = _hex("00" * 24 + "9000", "6A88")
    targets["secured command"] = Target(_secured_command, (DecodeError,), secured, ())
    targets["secured answer"] = Target(_secured_answer, (DecodeError,), answers, ())
    return targets


TARGETS: dict[str, Target] = {
    # --- card management, what the host reads
    "CAP file": Target(
        read_cap,
        (DecodeError,),
        (write_cap(shipped_packages()["tls-im"].load_file, "iose/tls_im"),),
        ("client/cap_file.py read_cap",),
    ),
    "key file of a card": Target(
        read_key_document,
        (CardManagementError,),
        (json.dumps(key_document(PUBLISHED_KEYS, ScpVariant(3, 0x70))).encode(),),
        ("client/card/key_files.py read_key_document",),
    ),
    "key file of a card, by its name": Target(
        _file(read_key_file),
        (CardManagementError, ConfigurationError),
        (json.dumps(key_document(PUBLISHED_KEYS, ScpVariant(2, 0x15))).encode(),),
        ("cli/card_options.py read_key_file", "cli/card_options.py read_small_file"),
    ),
    "file of an instance's secrets": Target(
        _file(read_fields),
        (ConfigurationError,),
        (b'{"seid": "se-00000001", "sen": "key1.com", "user_pin": "22222222"}',),
        ("cli/card_files.py read_fields",),
    ),
    "privileges on the command line": Target(
        _text(parse_privileges),
        (BadParameter,),
        (b"04", b"040010", b"default selected,card_lock"),
        ("cli/card_requests.py parse_privileges",),
    ),
    "production data of a card": Target(
        decode_production,
        (),
        (bytes(range(42)),),
        ("client/card/information.py decode_production",),
    ),
    "applications of an older card": Target(
        lambda data: decode_plain(data, StatusScope.APPLICATIONS),
        (DecodeError,),
        _hex("05010203040507040601020304050087 00"),
        ("client/card/inventory.py decode_plain",),
    ),
    "load files of an older card": Target(
        lambda data: decode_plain(data, StatusScope.LOAD_FILES_AND_MODULES),
        (DecodeError,),
        _hex("0501020304050100 01 06010203040500"),
        ("client/card/inventory.py decode_plain",),
    ),
    # --- X.509
    "certificate": Target(
        x509.decode_certificate,
        (CryptoError,),
        (_CERTIFIED.certificate, ssl.PEM_cert_to_DER_cert(_CERTIFIED.certificate.decode())),
        ("crypto/x509.py decode_certificate",),
    ),
    "certificate request": Target(
        x509.public_of_request, (CryptoError,), (request(_CERTIFIED.authority.key),), ()
    ),
    # --- files of a node
    "names given over RACS": Target(
        lambda data: read_names(_holding(NAMES_FILE, data)),
        (ConfigurationError,),
        (b'{"se-1":{"sen":"key1.com","aid":""}}',),
        ("runtime/names.py read_names",),
    ),
    "head of an audit log": Target(
        _text(decode_head),
        (ConfigurationError,),
        (b"12:" + b"0a" * 32,),
        ("runtime/audit_chain.py decode_head",),
    ),
    "audit log": Target(
        _audited,
        (),
        (
            b"".join(_audit_lines({"kind": "start"}, {"kind": "intent"}, {"kind": "stop"})),
            b"".join(_audit_lines({"kind": "intent"}, {"kind": "outcome", "of": 1})),
        ),
        ("runtime/audit_view.py read_records", "runtime/audit_chain.py read_entries"),
    ),
    "revocation list": Target(
        lambda data: x509.decode_revocations(data, [_CERTIFIED.authority.certificate]),
        (CryptoError,),
        (_CERTIFIED.crl,),
        ("crypto/x509.py decode_revocations",),
    ),
    # --- ISO 7816 and the card
    "command APDU": Target(
        CommandApdu.decode,
        (DecodeError,),
        _hex("00A40400", "00C000001C", "00D8000003AABBCC00", "00D80000000003AABBCC0101"),
        ("iso7816/apdu.py CommandApdu.decode",),
    ),
    "response APDU": Target(
        ResponseApdu.decode,
        (DecodeError,),
        _hex("9000", "AABB9F1C"),
        ("iso7816/apdu.py ResponseApdu.decode",),
    ),
    "ATR": Target(
        Atr.decode,
        (DecodeError,),
        _hex("3B9895006B6579312E636F6D", "3B8880016B6579312E636F6D00"),
        ("iso7816/atr.py Atr.decode",),
    ),
    "TLV": Target(
        Tlv.decode, (DecodeError,), _hex("6F048402AABB", "9F7F0100"), ("iso7816/tlv.py Tlv.decode",)
    ),
    "TLVs": Target(
        Tlv.decode_all,
        (DecodeError,),
        _hex("6F048402AABB9F7F0100", "7F2181800102"),
        ("iso7816/tlv.py Tlv.decode_all",),
    ),
    "AID": Target(
        _text(Aid.from_hex), (DecodeError,), (b"010203040500",), ("iso7816/aid.py Aid.from_hex",)
    ),
    # --- GlobalPlatform
    "answer to INITIALIZE UPDATE": Target(
        InitiateAnswer.decode,
        (DecodeError,),
        _hex(
            "00000000000000000000FF020001" + "AA" * 14,
            "000000000000000000003003" + "70" + "AA" * 19,
            "000000000000000000003003" + "01" + "AA" * 32,
        ),
        ("globalplatform/channel.py InitiateAnswer.decode",),
    ),
    "registry": Target(
        Registry.decode,
        (DecodeError,),
        (Registry((RegistryEntry(Aid(b"12345"), "a", Privilege.DEFAULT_SELECTED),)).encode(),),
        ("card/registry.py Registry.decode",),
    ),
    "registry of the first version": Target(
        Registry.decode,
        (DecodeError,),
        _hex("01" + "053132333435" + "0161" + "0407"),
        ("card/registry.py Registry.decode",),
    ),
    "parameters of a domain": Target(
        DomainParameters.decode,
        (DecodeError,),
        (DomainParameters().encode(), b"\x02\x55\x01"),
        ("applets/security_domain/state.py DomainParameters.decode",),
    ),
    "keys of a domain": Target(
        DomainKeys.decode,
        (DecodeError,),
        (DomainKeys((KeySet(0x30, bytes(16), bytes(16), bytes(16)),)).encode(),),
        ("applets/security_domain/state.py DomainKeys.decode",),
    ),
    "data for an applet": Target(
        _personalise,
        (StatusWordError,),
        (demo(is_final=False, seid=b"se-01234567").encode(),),
        ("applets/tls_se/server.py TlsServerApplet.receive_data",),
    ),
    "personalisation": Target(
        Personalisation.decode,
        (DecodeError,),
        (demo().encode(), Personalisation(name=b"x", psk=bytes(32), user_pin=b"1").encode()),
        (
            "applets/tls_se/personalisation.py Personalisation.decode",
            "applet_commands/fields.py decode_fields",
            "applet_commands/fields.py decode_bool",
        ),
    ),
    "personalisation of a module": Target(
        ModulePersonalisation.decode,
        (DecodeError,),
        (demo_module(psk=bytes(32), clients=(Aid(b"12345"),)).encode(), b""),
        (
            "applets/tls_im/personalisation.py ModulePersonalisation.decode",
            "applets/tls_im/state.py decode_setting",
            "applets/tls_im/state.py decode_clients",
        ),
    ),
    "profile of a module": Target(
        ModuleProfile.decode,
        (DecodeError,),
        (ModuleProfile(clients=(Aid(b"12345"),)).encode(),),
        ("applets/tls_im/state.py ModuleProfile.decode",),
    ),
    "commands of a module": Target(
        _module_apdu,
        (),
        _hex(
            "002000000430303030",
            "0085000E20" + "00" * 32,
            "0085000A23010020" + "00" * 32,
            "008201FF00",
            "0088030041" + "04" * 65,
        ),
        ("applets/tls_im/applet.py TlsIdentityApplet.receive_data",),
    ),
    "salt and PSK": Target(
        read_pair,
        (DecodeError,),
        _hex("01000201FF"),
        ("applet_commands/psk_functions.py read_pair",),
    ),
    "profile": Target(
        Profile.decode,
        (DecodeError,),
        (_OBJECTS["010203040500/object/profile"],),
        ("applets/tls_se/state.py Profile.decode", "applets/tls_se/state.py decode_settings"),
    ),
    "settings": Target(
        decode_settings, (DecodeError,), (bytes(3),), ("applets/tls_se/state.py decode_settings",)
    ),
    "stored key": Target(
        KeySlot.decode,
        (DecodeError,),
        (KeySlot().encode(),),
        ("applet_commands/key_pairs.py KeySlot.decode",),
    ),
    "stored PSK": Target(
        ElementPsk.decode,
        (DecodeError,),
        (_OBJECTS["010203040500/object/psk"],),
        ("applet_commands/psk.py ElementPsk.decode",),
    ),
    "stored objects": Target(
        _stored,
        (IoseError,),
        (_OBJECTS["010203040500/object/psk"],),
        (
            "applets/tls_se/owner.py read_secrets",
            "runtime/compose/elements.py TlsSeMaker.read_secrets",
        ),
    ),
    "statement of an element": Target(
        Statement.decode,
        (DecodeError,),
        (_STATEMENT.encode(),),
        ("protocols/attestation.py Statement.decode",),
    ),
    "signed statement": Target(
        SignedStatement.decode,
        (DecodeError,),
        (SignedStatement(_STATEMENT.encode(), bytes(70)).encode(),),
        ("protocols/attestation.py SignedStatement.decode",),
    ),
    "piece of a statement": Target(
        attestation.read_first_piece,
        (DecodeError,),
        (attestation.split_pieces(_STATEMENT.encode())[0],),
        ("protocols/attestation.py read_first_piece",),
    ),
    "evidence of an attestation": Target(
        Evidence.decode,
        (DecodeError,),
        (_EVIDENCE, _EVIDENCE.replace(b'"statement"', b'"other"')),
        ("client/attestation/evidence.py Evidence.decode",),
    ),
    "private key in PEM": Target(
        lambda data: ec_keys.decode_private_key(data, Curve.SECP256K1),
        (DecodeError,),
        (ec_keys.encode_private_key(Curve.SECP256K1, _SCALAR).encode(),),
        ("crypto/ec_keys.py decode_private_key",),
    ),
    "public key in PEM": Target(
        lambda data: ec_keys.decode_public_key(data, Curve.SECP256K1),
        (DecodeError,),
        (ec_keys.encode_public_key(Curve.SECP256K1, _PUBLIC).encode(),),
        ("crypto/ec_keys.py decode_public_key",),
    ),
    "authority": Target(
        _text(load_authority),
        (CredentialsError,),
        (_PUBLIC.hex().encode(), b"demo"),
        ("client/attestation/authority.py load_authority",),
    ),
    "file of an authority": Target(
        _file(lambda path: load_authority(str(path))),
        (CredentialsError,),
        (_PUBLIC.hex().encode(), ec_keys.encode_public_key(Curve.SECP256K1, _PUBLIC).encode()),
        ("client/attestation/authority.py load_authority",),
    ),
    "private file of an authority": Target(
        _file(lambda path: load_authority_key(str(path))),
        (CredentialsError,),
        (_SCALAR.hex().encode(), ec_keys.encode_private_key(Curve.SECP256K1, _SCALAR).encode()),
        ("client/attestation/authority.py load_authority_key",),
    ),
    "keystore line": Target(
        _line,
        (),
        (
            b"?00\n",
            b"c00\n",
            b"X001234\n",
            b"b0080000001\n",
            b"Z00text\r\n",
            b"h00" + b"AB" * 32 + b"\n",
            b"?0F" + b"AB" * 32 + b"\n",
            b"?0F01\n",
        ),
        ("applets/tls_se/keystore/interpreter.py Keystore.handle",),
    ),
    # --- TLS
    **_messages(),
    **_card_management(),
    **_extensions(),
    "handshake messages in records": Target(
        _join_messages,
        (TlsPeerError,),
        (_HELLO.encode(), b"\x18\0\0\1\0" * 5),
        ("tls/messages.py HandshakeBuffer",),
    ),
    "records to a server": Target(
        lambda data: _receive(ServerEngine(server_config()), data),
        (TlsPeerError, AlertReceived),
        (b"".join(_PAIR.client_records),),
        ("tls/stream_engine.py StreamEngine.receive_data", "tls/engine.py TlsEngine.receive_data"),
    ),
    "records to a client": Target(
        lambda data: _receive(ClientEngine(client_config(**_CLIENT)), data),
        (TlsPeerError, AlertReceived),
        (b"".join(_PAIR.server_records),),
        ("tls/stream_engine.py StreamEngine.receive_data",),
    ),
    # --- the front
    "server name": Target(
        read_server_name,
        (DecodeError,),
        (client_hello(b"key1.com"), client_hello(), client_hello(b"a", b"b")),
        ("bridge/client_hello.py read_server_name",),
    ),
    "size of a hello": Target(
        lambda data: (handshake_size(data), handshake_size(bytearray(data))),
        (DecodeError,),
        (client_hello(b"key1.com"),),
        ("bridge/client_hello.py handshake_size",),
    ),
    "a client's stream": Target(
        _relay,
        (),
        (b"".join(_PAIR.client_records),),
        (
            "bridge/stream.py StreamBridge.receive_data",
            "bridge/stream.py StreamBridge.receive_responses",
        ),
    ),
    "driver of a virtual reader": Target(
        _drive,
        (DecodeError,),
        _hex("000104000101000500B0000010000700D6000002ABCD000500C0000003000102"),
        ("protocols/vpcd.py DriverStream.receive_data",),
    ),
    # --- between our processes
    "frames": Target(
        _frames,
        (DecodeError,),
        (host_frames.encode_request(host_frames.ListRequest(1)),),
        ("protocols/host_frames.py FrameSplitter.receive_data",),
    ),
    "request frame": Target(
        host_frames.decode_request,
        (DecodeError,),
        (host_frames.encode_request(host_frames.ListRequest(1))[4:],),
        ("protocols/host_frames.py decode_request",),
    ),
    "answer frame": Target(
        host_frames.decode_answer,
        (DecodeError,),
        tuple(
            host_frames.encode_answer(answer)[4:]
            for answer in (
                host_frames.ListAnswer(
                    1, (host_frames.ElementInfo("se-1", "key1.com", b"\x3b\x00", 255, 512),)
                ),
                host_frames.Failure(1, host_frames.FailureCode(1), "text"),
            )
        ),
        ("protocols/host_frames.py decode_answer",),
    ),
    "control channel": Target(
        _talk,
        (),
        (
            b'{"id": 1, "op": "status", "arguments": {}}\n',
            b'{"event": "record", "arguments": {}}\n{"id": 1, "result": {}}\n',
            b'{"id": 2, "error": {"message": "x"}}\n' + b"[" * 5_000 + b"\n",
        ),
        tuple(f"runtime/channel.py read_{kind}" for kind in ("object", "text", "int", "list")),
    ),
    # --- files and texts of people
    "configuration": Target(
        _file(load_config),
        (ConfigurationError,),
        (_CONFIG, b"elements = 99999\n", b"[front]\nidle_s = -1\n", b"x = " + b"[" * 5_000),
        ("runtime/config.py load_config", "runtime/schema.py read_table"),
    ),
    "configuration in JSON": Target(
        _json(read_config),
        (ConfigurationError,),
        (
            b'{"elements": 3, "front": {"listen": ["127.0.0.1:1"], "idle_s": 1.5}}',
            b'{"front": {"idle_s": 1e999}}',
            b'{"front": {"idle_s": NaN}}',
            b'{"log": {"level": 5}}',
        ),
        ("runtime/config.py read_config",),
    ),
    "address": Target(
        _text(parse_address),
        (ConfigurationError,),
        (b"127.0.0.1:8888", b"[::1]:0", b"localhost:65536"),
        ("runtime/config.py parse_address",),
    ),
    "folder's description": Target(
        lambda data: _described(data).read_description(),
        (ConfigurationError,),
        (b'{"schema": 1}', b'{"schema": 2}', b"[" * 5_000),
        ("runtime/folder.py DataFolder.read_description",),
    ),
    "folder's key": Target(
        _json(lambda kept: seal.unwrap_data_key(PASSPHRASE, kept)),
        (ConfigurationError,),
        (_cheap_key(),),
        ("runtime/elements/seal.py unwrap_data_key",),
    ),
    "header of an export": Target(
        read_archive_header,
        (ConfigurationError,),
        (_ARCHIVE, b"[" * 5_000),
        (
            "runtime/elements/archive.py read_archive_header",
            "runtime/elements/archive.py read_archive_fields",
        ),
    ),
    "fields of an export": Target(
        read_archive_fields,
        (ConfigurationError,),
        (_ARCHIVE,),
        ("runtime/elements/archive.py read_archive_fields",),
    ),
    "export": Target(
        lambda data: seal.decode_archive(data, ARCHIVE_KEY),
        (ConfigurationError,),
        (_ARCHIVE,),
        ("runtime/elements/seal.py decode_archive",),
    ),
    "content of an export": Target(
        _sealed,
        (ConfigurationError,),
        (_CONTENT, b"{}", b"[]", b"5", b'{"a": 5}', b'{"a": "\xc3\xa9"}', b"[" * 5_000),
        ("runtime/elements/seal.py decode_archive",),
    ),
    "mark": Target(
        Mark.decode,
        (StoreError,),
        (Mark().encode(), b"[]"),
        ("runtime/elements/record.py Mark.decode",),
    ),
    "record of the index": Target(
        _json(ElementRecord.from_json),
        (ControlError, ValueError),
        (_RECORD,),
        ("runtime/elements/record.py ElementRecord.from_json",),
    ),
    "credentials": Target(
        _file(lambda path: CredentialsStore(path).credentials()),
        (CredentialsError,),
        (_CREDENTIALS, b"[" * 5_000, b"{}", b"[]"),
        ("client/credentials.py CredentialsStore.credentials",),
    ),
    "URI": Target(
        _text(ElementUri.decode),
        (ElementUriError,),
        (
            b"keyS://key1.com:" + b"00" * 32 + b"@127.0.0.1:8888/;id=me?p00&s00%3Fab",
            b"keyS://a@[::1]/?query=c00",
            b"racS://x%40y@h:1",
        ),
        ("client/uri.py ElementUri.decode",),
    ),
    "URI of a module": Target(
        _text(lambda text: decode_module(text, pki=Path("/pki"))),
        (ElementUriError,),
        (
            b"racs://host:7777/se-1?aid=010203040800",
            b"racs://[::1]/x",
            b"keyS://a@b",
            b"pcsc:Virtual%20PCD%2000?aid=010203040500",
            b"i2c:/dev/i2c-1?address=0x48&reset_line=1&reset_chip=/dev/gpiochip0&form=se050",
            b"serial:/dev/ttyACM0?baud=9600&form=text",
            b"sim-array://[::1]:2310/701",
        ),
        ("client/module.py decode_module", "client/module_place.py ReaderModule.decode"),
    ),
    "PSK of a URI": Target(
        _text(decode_psk), (ElementUriError,), (b"00" * 32, b" ***"), ("client/uri.py decode_psk",)
    ),
    # --- what clients say to the RACS server
    "RACS request": Target(
        racs_server.serve,
        (),
        racs_server.REQUESTS,
        (
            "protocols/racs/request.py RequestMachine.receive_data",
            "protocols/racs/parameters.py decode_apdu_parameters",
            "protocols/racs/parameters.py decode_sen_parameters",
        ),
    ),
    "RACS form": Target(
        _text(racs_server.form),
        (DecodeError,),
        racs_server.FORMS,
        ("protocols/racs/form.py decode_form",),
    ),
    "RACS text": Target(
        racs_server.text,
        (DecodeError,),
        racs_server.TEXTS,
        ("protocols/racs/form.py decode_text",),
    ),
    "RACS URI": Target(
        _text(racs_server.uri),
        (DecodeError,),
        racs_server.URIS,
        ("protocols/racs/form.py decode_racs_uri",),
    ),
    "RACS page": Target(racs_server.page, (HttpRefusedError,), racs_server.FORMS, ()),
    "APDU before an element": Target(racs_server.judge, (), racs_server.APDUS, ()),
    # --- what RACS servers and scripts say, and the published server's directory
    "RACS response": Target(
        racs_client.read_responses,
        (RacsPeerError,),
        racs_client.RESPONSES,
        ("protocols/racs/response.py ResponseParser.receive_data",),
    ),
    "RACS script": Target(racs_client.read_requests, (DecodeError,), racs_client.SCRIPTS, ()),
    "SIM array reply": Target(
        sim_array.decode_reply,
        (DecodeError,),
        (b"000 9000", b"000 3B0A6B65793730312E636F6D", b"000 *FF00*2D61629000", b"105 no card"),
        ("protocols/sim_array.py decode_reply",),
    ),
    "SIM array contents": Target(
        sim_array.decode_content,
        (DecodeError,),
        (b"000 701:8:B8:0.801:3:E:1", b"000 ", b"000.101:32:80000001:0"),
        ("protocols/sim_array.py decode_content",),
    ),
    # --- what devices on an I2C bus say
    "frame on a bus": Target(
        I2cFrame.decode, (DecodeError,), i2c.FRAMES, ("protocols/i2c_frames.py I2cFrame.decode",)
    ),
    "parameters of a device": Target(
        DeviceParameters.decode,
        (DecodeError,),
        (i2c.PARAMETERS,),
        ("protocols/i2c_frames.py DeviceParameters.decode",),
    ),
    "frames of a board": Target(i2c.hear_frames, (I2cPeerError,), i2c.FRAMES, ()),
    "blocks of a device": Target(i2c.hear_blocks, (I2cPeerError,), i2c.BLOCKS, ()),
    "RACS Lite": Target(
        lambda data: [racsl.decode_command(line) for line in racsl.RacslLines().receive_data(data)],
        (RacsPeerError,),
        (b"on\r\nA 00A4040006010203040500\r\noff\r\n", b"ON\n"),
        (
            "protocols/racs/racsl.py RacslLines.receive_data",
            "protocols/racs/racsl.py decode_command",
        ),
    ),
    "RACS Lite answer": Target(
        _text(racsl.decode_answer),
        (RacsPeerError,),
        (b"OK", b"ERROR No Command!", b"6F009000"),
        ("protocols/racs/racsl.py decode_answer",),
    ),
    "published configuration": Target(
        racs_client.read_directory,
        (ConfigurationError,),
        racs_client.DIRECTORIES,
        (
            "runtime/author_config.py read_author_config",
            "runtime/author_policy.py parse_policy",
            "runtime/author_policy.py parse_filter",
            "runtime/author_readers.py read_readers",
        ),
    ),
    "file with a key": Target(
        _file(read_psk),
        (ConfigurationError,),
        (b"5A" * 32 + b"\n", b"00" * 16, b"5A " * 64),
        ("runtime/racs_rules.py read_psk",),
    ),
    # --- what an element says to its client
    **_answers(),
    "signature": Target(
        decode_signature, (DecodeError,), _hex(_DER), ("client/signature.py decode_signature",)
    ),
    "a session's bytes": Target(
        _session,
        (HandshakeError,),
        (b"".join(_PAIR.server_records),),
        ("client/session.py ElementSession.receive_data",),
    ),
}


def _described(data: bytes) -> DataFolder:
    folder = DataFolder(Path(tempfile.gettempdir()) / f"iose-fuzz-{id(data):x}")
    folder.path.mkdir(exist_ok=True)
    folder.description.write_bytes(data)
    return folder


INNER: dict[str, str] = {
    "globalplatform/commands.py load_blocks": "cuts what we send",
    "applet_api.py DataReceiver.receive_data": "a Protocol",
    "applets/tls_se/application.py Application.handle": "a Protocol",
    "applets/tls_se/application.py EchoApplication.handle": "gives back what it gets",
    "runtime/elements/owner.py ElementMaker.read_secrets": "a Protocol",
    "runtime/channel.py read_text": "of the control channel",
    "runtime/channel.py read_int": "of the control channel",
    "runtime/channel.py read_list": "of the control channel",
    "client/codec.py read_same": "compares bytes",
    "client/codec.py read_secret_echo": "compares keys; reached by the answer with a new PSK",
    "cli/passphrase.py read_passphrase_file": "takes the first line of a file",
    "wire/reader.py ByteReader.read_opaque": "under every binary decoder",
}
