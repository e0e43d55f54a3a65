"""`ce-gateway send http://...` against the HTTP source."""

import asyncio

import pytest

from bindings.event import Event
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.cli.senders.http import HttpSender
from gateway.config.records import Address, EventTemplate, TlsConfig
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.sources.http import HttpSource, HttpSourceConfig
from tests.gateway.stepped import HurriedLoop
from tests.helpers import RecordingIntake

EVENT = Event(id="1", source="/s", type="t", datacontenttype="application/json", data=b"{}")


@pytest.fixture
async def start():
    """Start a source; returns a function that makes it, its intake and a sender for it."""
    running = []

    async def start(intake=None, *, options=None, scheme="http", host="localhost", **config):
        intake = intake or RecordingIntake()
        source = HttpSource(HttpSourceConfig(listen=Address("127.0.0.1", 0), **config))
        await source.open(intake)
        sender = HttpSender(f"{scheme}://{host}:{source.address.port}/", options or SendOptions())
        await sender.open()
        running.extend([sender, source])
        return intake, sender

    yield start
    for thing in running:
        await thing.close()


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_event_arrives_and_the_answer_is_in_the_words_of_http(start, mode):
    intake, sender = await start(options=SendOptions(mode=mode))
    assert await sender.send(EVENT) == "202 Accepted"
    assert intake.events == [EVENT]
    assert (intake.events[0].encoded is not None) is (mode == "structured")


async def test_plain_payload_is_sent_as_it_is(start):
    template = EventTemplate(type="t", source="/s")
    intake, sender = await start(event=template)
    assert await sender.send(Plain(b"21.5", "text/plain")) == "202 Accepted"
    assert (intake.events[0].data, intake.events[0].datacontenttype) == (b"21.5", "text/plain")


async def test_refusal_is_an_error_with_the_status_and_the_reason(start):
    settlement = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, None, "no such topic")
    _, sender = await start(RecordingIntake(lambda _: settlement))
    with pytest.raises(SendError, match=r"^422 Unprocessable.*: no such topic$"):
        await sender.send(EVENT)


async def test_many_sends_at_once_each_have_their_own_answer(start):
    refused = Settlement(Outcome.RELEASED, Reason.BUSY)
    intake, sender = await start(
        RecordingIntake(lambda d: refused if d.events[0].id.endswith("7") else ACCEPTED)
    )
    sends = [sender.send(EVENT.replace(id=str(n))) for n in range(100)]
    answers = await asyncio.gather(*sends, return_exceptions=True)
    failed = [n for n, answer in enumerate(answers) if isinstance(answer, SendError)]
    assert failed == list(range(7, 100, 10))
    assert {a for a in answers if isinstance(a, str)} == {"202 Accepted"}
    assert len(intake.deliveries) == 100


async def test_credentials_are_shown(start):
    _, sender = await start(options=SendOptions(token="t"), token="t")
    assert await sender.send(EVENT) == "202 Accepted"
    _, sender = await start(
        options=SendOptions(username="u", password="p"), username="u", password="p"
    )
    assert await sender.send(EVENT) == "202 Accepted"
    _, sender = await start(token="t")
    with pytest.raises(SendError, match=r"^401 "):
        await sender.send(EVENT)


async def test_tls(start, certificates):
    tls = TlsConfig(cert=certificates.server_cert, key=certificates.server_key, ca=certificates.ca)
    options = SendOptions(
        ca=certificates.ca, cert=certificates.client_cert, key=certificates.client_key
    )
    _, sender = await start(options=options, scheme="https", tls=tls)
    assert await sender.send(EVENT) == "202 Accepted"
    _, sender = await start(scheme="https", tls=tls)
    with pytest.raises(SendError, match="certificate"):
        await sender.send(EVENT)


async def test_nobody_there_is_an_error_that_says_so():
    sender = HttpSender("http://127.0.0.1:9/", SendOptions(timeout=5))
    await sender.open()
    with pytest.raises(SendError, match="no connection"):
        await sender.send(EVENT)
    await sender.close()


@pytest.mark.loop(factory=HurriedLoop)
async def test_no_answer_in_time_is_an_error(start):
    intake = RecordingIntake(lambda _: None)
    _, sender = await start(intake, options=SendOptions(timeout=10), host="127.0.0.1")
    with pytest.raises(SendError, match="no answer in time"):
        await sender.send(EVENT)


@pytest.mark.parametrize("url", ["http://", "http://h:99999/", "http://h/a b"])
async def test_wrong_url_is_an_error(url):
    with pytest.raises(SendError):
        await HttpSender(url, SendOptions()).open()
