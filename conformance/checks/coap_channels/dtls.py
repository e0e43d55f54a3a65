"""CoAP over DTLS: who the sender is, and what a handshake guards against (binding 10.1, 10.2)."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from conformance.check import Check, CheckFailed
from conformance.checks.coap_live import check, expect, expect_code, expect_events, url_of
from conformance.peers.coap import Device
from conformance.peers.coap_dtls import DtlsDevice
from conformance.peers.credentials import PSK
from conformance.target import Target

# POST /ce?t=t.x&i=1 with Content-Format 50 and {"a":1}, as SEC-02 has it.
_EVENT: Final = bytes.fromhex("4102200107b26365113235743d742e7803693d31ff7b2261223a317d")
_OWN: Final = bytes.fromhex("4102200207b36f776e113235743d742e7803693d32")  # POST /own?t=t.x&i=2
_AUTH: Final = bytes.fromhex("4102200307b46175746845743d742e7803693d33")  # POST /auth?t=t.x&i=3
_SOURCES: Final = {
    "dev1": "/devices/dev1",
    "a b/\u00fc": "/devices/a%20b%2F%C3%BC",
    "A.z_0~-9": "/devices/A.z_0~-9",
}
_HANDSHAKE, _APPLICATION_DATA = 22, 23
_HELLO_VERIFY_REQUEST: Final = 3


def checks() -> Iterator[Check]:
    """Return the checks of the class dtls."""
    for number, (identity, source) in enumerate(_SOURCES.items(), 1):
        rules = "SEC-002 SEC-006" if number == 1 else "SEC-002 SEC-003"
        yield check(
            f"dtls-source-{number}",
            f"The identity {identity!r} makes {source} the default source",
            rules,
            "2.04",
            partial(_default_source, identity, source),
        )
    for claimed, code, title in (
        ("/devices/dev2", "4.03", "An identity does not speak for another"),
        ("/devices/dev12", "4.03", "A source that begins like the own one is another"),
        ("coap://127.0.0.1", "4.03", "The address is no source of who has an identity"),
        ("/devices/dev1/../dev2", "4.03", "Dot segments lead away from the own source"),
        ("/devices/dev1", "2.04", "An identity may name its own source"),
        ("/devices/dev1/sensor3", "2.04", "An identity may use what is below its source"),
        ("/devices/dev1#a", "2.04", "An identity may use a part of its source"),
    ):
        rule = "SEC-015" if code == "4.03" else "SEC-016"
        rule = "SEC-022" if ".." in claimed else rule
        name = claimed.strip("/").replace("..", "dots").replace("/", "-")
        name = name.replace(":", "").replace("#", "-")
        run = partial(_claim, claimed, code)
        yield check(f"dtls-claim-{name}", title, rule, code, run)
    yield check("dtls-auth", "A session is enough where credentials are needed", "SEC-001", "2.04",
                _authenticated)  # fmt: skip
    yield check("dtls-no-credentials", "Neither key nor identity gets into an event", "SEC-005",
                "2.04", _no_credentials)  # fmt: skip
    yield check("dtls-no-identity", "Beside a source of the producer's nothing names the identity",
                "SEC-005", "2.04", _no_identity)  # fmt: skip
    yield check("dtls-wrong-key", "With a wrong key there is no handshake and no event", "SEC-006",
                "no session", partial(_no_session, "dev1", b"wrong"))  # fmt: skip
    yield check("dtls-unknown-identity", "Without a known identity there is no handshake, no event",
                "SEC-006", "no session", partial(_no_session, "nobody", PSK["dev1"]))  # fmt: skip
    yield check("dtls-cookie", "A first ClientHello is answered with a cookie", "SEC-007",
                "HelloVerifyRequest", _cookie)  # fmt: skip
    yield check("dtls-cookie-of-another", "A cookie is good for the address that it was sent to",
                "SEC-007", "HelloVerifyRequest", _cookie_of_another)  # fmt: skip
    yield check("dtls-plain", "A request in plain text gets no answer in plain text", "SEC-008",
                "no answer", _plain)  # fmt: skip
    yield check("dtls-plain-in-session", "Nor does it from the address of a session", "SEC-008",
                "no answer", _plain_in_session)  # fmt: skip
    yield check("dtls-malformed-records", "Records that are none stop no session", "SEC-008",
                "no answer", _malformed_records)  # fmt: skip


@asynccontextmanager
async def _session(target: Target, identity: str = "dev1") -> AsyncIterator[DtlsDevice]:
    target.forget()
    async with DtlsDevice(url_of(target, "coaps"), identity) as device:
        yield await device.connect()


async def _post(device: Device, request: bytes, code: str = "2.04") -> None:
    device.send(request)
    expect_code(await device.receive(), code, request)


async def _default_source(identity: str, source: str, target: Target) -> None:
    async with _session(target, identity) as device:
        await _post(device, _EVENT)
    await expect_events(target, {"id": "1", "type": "t.x", "source": source, "data": b'{"a":1}'})


async def _claim(source: str, code: str, target: Target) -> None:
    query = b"s=" + source.encode()
    length = bytes((len(query),)) if len(query) < 13 else bytes((13, len(query) - 13))
    async with _session(target) as device:
        await _post(device, _OWN + length + query, code)
        await _post(device, _EVENT)
    claimed = [{"id": "2", "source": source}] if code == "2.04" else []
    await expect_events(target, *claimed, {"id": "1"})


async def _authenticated(target: Target) -> None:
    async with _session(target) as device:
        await _post(device, _AUTH)
    await expect_events(target, {"id": "3"})


async def _no_credentials(target: Target) -> None:
    for identity, key in PSK.items():
        async with _session(target, identity) as device:
            await _post(device, _EVENT)
        (event,) = await expect_events(target, {"id": "1"})
        attributes = {**event.attributes, "source": ""}
        text = f"{attributes} {event.data!r}"
        for secret in (identity, key.decode(), key.hex()):
            expect(secret not in text, f"{secret!r} is in the event", got=text)
        text = str(event.attributes["source"])
        for secret in (key.decode(), key.hex()):
            expect(secret not in text, "the key is in the source", got=text)


async def _no_identity(target: Target) -> None:
    async with _session(target) as device:
        await _post(device, bytes.fromhex("4102200407b263654574") + b"=t.x\x03i=4\x04s=/s")
    (event,) = await expect_events(target, {"id": "4", "source": "/s"})
    text = f"{event.attributes} {event.data!r}"
    expect("dev1" not in text, "the identity is in the event", got=text)


async def _no_session(identity: str, key: bytes, target: Target) -> None:
    async with DtlsDevice(url_of(target, "coaps"), identity, key) as stranger:
        try:
            while not await stranger.continue_handshake():
                pass
        except CheckFailed as failure:
            expect("handshake" in str(failure) or "no answer" in str(failure), str(failure))
        else:
            raise CheckFailed("the handshake was completed", expected="a failure")
        async with _session(target) as device:
            await _post(device, _OWN)
    await expect_events(target, {"id": "2"})


async def _cookie(target: Target) -> None:
    async with DtlsDevice(url_of(target, "coaps")) as device:
        hello = device.flight()
        device.send_raw(hello)
        _expect_cookie(await device.receive_raw(), hello)


def _expect_cookie(record: bytes, hello: bytes) -> None:
    is_cookie = record[0] == _HANDSHAKE and record[13] == _HELLO_VERIFY_REQUEST
    expect(is_cookie, "no cookie is asked for", expected="HelloVerifyRequest", got=record.hex())
    expect(len(record) <= len(hello), "the answer is larger than the ClientHello", got=len(record))


async def _cookie_of_another(target: Target) -> None:
    url = url_of(target, "coaps")
    async with DtlsDevice(url) as device, Device(url) as forger:
        expect(not await device.continue_handshake(), "there is no cookie")
        with_cookie = device.flight()
        forger.send(with_cookie)
        _expect_cookie(await forger.receive_raw(), with_cookie)
        device.send_raw(with_cookie)
        record = await device.receive_raw()
        expect(record[13] != _HELLO_VERIFY_REQUEST, "its own cookie is refused", got=record.hex())


async def _plain(target: Target) -> None:
    url = url_of(target, "coaps")
    async with Device(url) as stranger, DtlsDevice(url) as same_kind:
        stranger.send(_EVENT)
        hello = same_kind.flight()
        stranger.send(hello)  # what comes first is the answer to this
        _expect_cookie(await stranger.receive_raw(), hello)
        async with _session(target) as device:
            await _post(device, _OWN)
    await expect_events(target, {"id": "2"})


async def _plain_in_session(target: Target) -> None:
    async with _session(target) as device:
        device.send_raw(_EVENT)
        device.send(_OWN)
        record = await device.receive_raw()
        expect(record[0] == _APPLICATION_DATA, "the answer is in plain text", got=record.hex())
    await expect_events(target, {"id": "2"})


async def _malformed_records(target: Target) -> None:
    async with _session(target) as device:
        version = b"\xfe\xfd"
        for record in (
            b"\x17",
            b"\x17" + version,
            b"\x17" + version + bytes(8) + b"\xff\xff",  # cut off
            b"\x17" + version + b"\0\1" + bytes(6) + b"\0\x20" + bytes(32),  # forged
            b"\xff" * 64,
        ):
            device.send_raw(record)
        device.send(_OWN)
        record = await device.receive_raw()
        expect(record[0] == _APPLICATION_DATA, "something was answered", got=record.hex())
    await expect_events(target, {"id": "2"})
