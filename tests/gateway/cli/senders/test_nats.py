"""`ce-gateway send nats://...` against a real nats-server; nats-py reads what was sent."""

import asyncio
import json

import nats
import pytest

from bindings.event import Event
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.cli.senders.nats import NatsSender
from gateway.embedded_nats import EmbeddedNats

EVENT = Event(id="1 ü", source="/s", type="t", datacontenttype="application/json", data=b'{"a": 1}')


@pytest.fixture
async def server():
    embedded = EmbeddedNats()
    await embedded.start()
    yield embedded
    await embedded.stop()


@pytest.fixture
async def client(server):
    connection = await nats.connect(server.url)
    yield connection
    await connection.close()


async def send(url, message, **options):
    sender = NatsSender(url, SendOptions(**options))
    await sender.open()
    try:
        return await sender.send(message)
    finally:
        await sender.close()


async def answering(client, subject, answer):
    """Subscribe and answer; returns the list that what comes is appended to."""
    received = []

    async def reply(message):
        received.append(message)
        if answer is not None:
            await message.respond(answer)

    await client.subscribe(subject, cb=reply)
    await client.flush()
    return received


async def test_a_binary_event_is_sent_and_the_reply_returned(server, client):
    received = await answering(client, "events.a", b"+ACK")
    assert await send(f"{server.url}/events.a", EVENT) == "+ACK"
    assert received[0].data == b'{"a": 1}'
    assert received[0].headers == {
        "ce-specversion": "1.0",
        "ce-id": "1%20%C3%BC",
        "ce-source": "/s",
        "ce-type": "t",
        "ce-datacontenttype": "application/json",
    }


async def test_a_structured_event_is_sent_to_the_subject_of_the_query(server, client):
    received = await answering(client, "events.b", b"+ACK")
    await send(f"{server.url}?subject=events.b", EVENT, mode="structured")
    assert received[0].headers == {"Content-Type": "application/cloudevents+json"}
    assert json.loads(received[0].data)["id"] == "1 ü"


async def test_a_plain_payload_is_sent_as_it_is(server, client):
    received = await answering(client, "plain", b"+ACK")
    await send(f"{server.url}/plain", Plain(b"21.5", "text/plain"))
    await send(f"{server.url}/plain", Plain(b"21.5"))
    assert [(m.data, m.headers) for m in received] == [
        (b"21.5", {"Content-Type": "text/plain"}),
        (b"21.5", None),
    ]


async def test_a_refusal_is_an_error_in_the_words_of_the_other_side(server, client):
    await answering(client, "a", b"-ERR sink_down: no answer")
    with pytest.raises(SendError, match=r"^-ERR sink_down: no answer$"):
        await send(f"{server.url}/a", EVENT)


async def test_nobody_who_listens_is_an_error(server):
    with pytest.raises(SendError, match="nobody listens on a"):
        await send(f"{server.url}/a", EVENT)


async def test_no_answer_in_time_is_an_error(server, client):
    await answering(client, "a", None)
    with pytest.raises(SendError, match=r"no answer within 0\.6 s"):
        await send(f"{server.url}/a", EVENT, timeout=0.6)


async def test_jetstream_answers_with_stream_and_sequence(server, client):
    await client.jetstream().add_stream(name="S", subjects=["s.>"])
    assert await send(f"{server.url}/s.a", EVENT, jetstream=True) == "S 1"
    assert await send(f"{server.url}/s.a", EVENT, jetstream=True) == "S 2"
    assert (await client.jetstream().get_msg("S", 1)).headers["ce-id"] == "1%20%C3%BC"
    with pytest.raises(SendError):
        await send(f"{server.url}/elsewhere", EVENT, jetstream=True)


async def test_many_may_be_sent_at_once(server, client):
    received = await answering(client, "a", b"+ACK")
    sender = NatsSender(f"{server.url}/a", SendOptions())
    await sender.open()
    assert set(await asyncio.gather(*[sender.send(EVENT) for _ in range(100)])) == {"+ACK"}
    await sender.close()
    assert len(received) == 100


async def test_user_password_and_token():
    server = EmbeddedNats(arguments=["--user", "ann", "--pass", "p:w"])
    await server.start()
    host = server.url.removeprefix("nats://")
    with pytest.raises(SendError, match="nobody listens"):
        await send(f"{server.url}/a", EVENT, username="ann", password="p:w")
    with pytest.raises(SendError, match="nobody listens"):
        await send(f"nats://ann:p%3Aw@{host}/a", EVENT)
    with pytest.raises(SendError, match=r"(?i)authorization violation"):
        await send(f"{server.url}/a", EVENT, username="ann", password="wrong")
    await server.stop()
    server = EmbeddedNats(arguments=["--auth", "t0ken"])
    await server.start()
    with pytest.raises(SendError, match="nobody listens"):
        await send(f"{server.url}/a", EVENT, token="t0ken")
    await server.stop()


async def test_tls(certificates):
    arguments = ["--tls", "--tlscert", str(certificates.server_cert)]
    server = EmbeddedNats(arguments=[*arguments, "--tlskey", str(certificates.server_key)])
    await server.start()
    url = server.url.replace("nats:", "tls:") + "/a"
    with pytest.raises(SendError, match="nobody listens"):
        await send(url, EVENT, ca=certificates.ca)
    with pytest.raises(SendError, match="nobody listens"):
        await send(url, EVENT, insecure=True)
    with pytest.raises(SendError, match="certificate verify failed"):
        await send(url, EVENT)
    await server.stop()


async def test_tls_is_never_given_up_silently(server):
    with pytest.raises(SendError, match="offers no TLS"):
        await send(server.url.replace("nats:", "tls:") + "/a", EVENT)


async def test_a_server_that_is_down_is_an_error(server):
    await server.stop()
    with pytest.raises(SendError, match=r"no connection to nats://127\.0\.0\.1"):
        await send(f"{server.url}/a", EVENT)


@pytest.mark.parametrize("url", ["nats://localhost", "nats://localhost/", "tls://localhost?x=1"])
def test_a_url_without_a_subject_is_an_error(url):
    with pytest.raises(SendError, match="no subject"):
        NatsSender(url, SendOptions())
