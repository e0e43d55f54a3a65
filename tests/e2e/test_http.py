"""The HTTP source against curl and the official SDK, the sink against http.server and uvicorn."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from datetime import UTC, datetime

import fastapi
import pytest
import uvicorn
from cloudevents.core.bindings import http as sdk_http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from bindings.event import Event
from gateway.config.records import Address, LimitsConfig, TlsConfig
from gateway.delivery import Outcome, Reason, Settlement
from gateway.sinks.http import HttpSink, HttpSinkConfig
from gateway.sources.http import HttpSource, HttpSourceConfig
from tests.e2e.readers.sdk import Record, read_with_python
from tests.e2e.servers import Answer, program
from tests.helpers import RecordingIntake

STRUCTURED = '{"specversion":"1.0","id":"s1","source":"/s","type":"t","data":{"a": 1}}'
CE_JSON = ("-H", "Content-Type: application/cloudevents+json")
BINARY = (
    *("-H", "ce-specversion: 1.0", "-H", "ce-id: 1", "-H", "ce-source: /s", "-H", "ce-type: t"),
    *("-H", "Content-Type: application/json"),
)


@contextlib.asynccontextmanager
async def source(intake, **config):
    adapter = HttpSource(HttpSourceConfig(name="web", listen=Address("127.0.0.1", 0), **config))
    await adapter.open(intake)
    try:
        yield f"http://127.0.0.1:{adapter.address.port}/"
    finally:
        await adapter.drain()
        await adapter.close()


async def curl(url, *arguments, stdin=b""):
    """Return the status and the answer, headers included."""
    process = await asyncio.create_subprocess_exec(
        *(program("curl", "curl"), "-sS", "-i", "--max-time", "20", "-w", "\n%{http_code}"),
        *arguments,
        url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate(stdin)
    assert process.returncode == 0, errors.decode()
    text, _, status = out.decode("latin-1").rpartition("\n")
    return int(status), text


class TestCurl:
    async def test_binary_and_structured_events(self):
        intake = RecordingIntake()
        async with source(intake) as url:
            status, text = await curl(url, *BINARY, "-d", '{"a":1}')
            assert (status, text.splitlines()[0]) == (202, "HTTP/1.1 202 Accepted")
            assert (await curl(url, *CE_JSON, "-d", STRUCTURED))[0] == 202
        assert [(e.id, e.data) for e in intake.events] == [("1", b'{"a":1}'), ("s1", b'{"a": 1}')]

    async def test_several_requests_on_one_connection(self):
        intake = RecordingIntake()
        async with source(intake) as url:
            _, text = await curl(url, *CE_JSON, "-d", STRUCTURED, url, url, "-v")
        assert text.count("HTTP/1.1 202 Accepted") == 3
        assert len(intake.events) == 3

    @pytest.mark.parametrize(
        "options",
        [
            ("-H", "Transfer-Encoding: chunked"),
            ("-H", "Expect: 100-continue"),
            ("--http2",),
            ("--http2", "-H", "Transfer-Encoding: chunked"),
            ("--http1.0",),
            ("--request-target", "http://example.com/"),
        ],
    )
    async def test_ways_to_send_a_body(self, options):
        intake = RecordingIntake()
        # For a 100 that is missing curl would wait longer than it may take altogether.
        sending = (*CE_JSON, *options, "--expect100-timeout", "60", "--data-binary", "@-")
        async with source(intake) as url:
            status, _ = await curl(url, *sending, stdin=STRUCTURED.encode())
        assert status == 202
        assert [event.id for event in intake.events] == ["s1"]

    async def test_large_body_is_answered_413_and_curl_reads_it(self):
        async with source(RecordingIntake(), limits=LimitsConfig(max_event_bytes=1000)) as url:
            for options in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect:")):
                status, text = await curl(
                    url, *CE_JSON, *options, "--data-binary", "@-", stdin=b"x" * 3_000_000
                )
                assert status == 413
                assert "limit of 1000 bytes" in text

    async def test_refusals_are_readable(self):
        refused = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, None, "the sink said 403")
        async with source(RecordingIntake(lambda _: refused)) as url:
            status, text = await curl(url, *CE_JSON, "-d", STRUCTURED)
            assert (status, text.splitlines()[-1]) == (422, "the sink said 403")
            status, text = await curl(url, *CE_JSON, "-d", "{}")
            assert status == 400
            assert "specversion" in text
            assert (await curl(url, "-d", "a=b"))[0] == 415
            assert (await curl(url))[0] == 405
            assert (await curl(url, "-I"))[0] == 405
            assert (await curl(url + "x", "-d", "a"))[0] == 404

    async def test_handshake(self):
        async with source(RecordingIntake(), allowed_origins=["a.example"]) as url:
            origin = ("-X", "OPTIONS", "-H", "WebHook-Request-Origin: a.example")
            status, text = await curl(url, *origin, "-H", "WebHook-Request-Rate: 60")
        assert status == 200
        assert "WebHook-Allowed-Origin: a.example\r\n" in text.replace("\n", "\r\n").replace(
            "\r\r\n", "\r\n"
        )

    async def test_tls_and_credentials(self, certificates):
        tls = TlsConfig(
            cert=certificates.server_cert, key=certificates.server_key, ca=certificates.ca
        )
        intake = RecordingIntake()
        async with source(intake, tls=tls, username="u", password="p") as url:
            secure = url.replace("http://127.0.0.1", "https://localhost")
            mine = (
                *("--cacert", certificates.ca, "--cert", certificates.client_cert),
                *("--key", certificates.client_key, *CE_JSON, "-d", STRUCTURED),
            )
            assert (await curl(secure, *mine))[0] == 401
            assert (await curl(secure, *mine, "-u", "u:p"))[0] == 202
        assert len(intake.events) == 1


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_events_of_the_official_sdk_are_taken_whole(mode):
    attributes = {
        "id": "1",
        "source": "/s?a=b",
        "type": "com.example",
        "specversion": "1.0",
        "time": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "subject": "Euro € 😀 100%",
        "datacontenttype": "application/json",
        "myext": "a b",
    }
    write = sdk_http.to_structured if mode == "structured" else sdk_http.to_binary
    message = write(CloudEvent(attributes, {"a": [1, "é"]}), JSONFormat())
    intake = RecordingIntake()
    async with source(intake) as url:

        def post():
            connection = http.client.HTTPConnection("127.0.0.1", int(url.split(":")[2][:-1]))
            connection.request("POST", "/", message.body, dict(message.headers))
            status = connection.getresponse().status
            connection.close()
            return status

        assert await asyncio.to_thread(post) == 202
    (event,) = intake.events
    assert event.subject == "Euro € 😀 100%"
    assert (event.source, event.extensions) == ("/s?a=b", {"myext": "a b"})
    assert json.loads(event.data) == {"a": [1, "é"]}


def event(number, source="/s"):
    return Event(
        id=str(number),
        source=source,
        type="t",
        subject="a%20€",
        datacontenttype="application/json",
        data=b'{"n": %d}' % number,
    )


@contextlib.asynccontextmanager
async def sink(url, **config):
    adapter = HttpSink(HttpSinkConfig(name="out", url=url, **config))
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_http_server_receives_every_event_once_and_the_sdk_reads_it(http_recorder, mode):
    events = [event(n, f"/{n % 10}") for n in range(200)]
    async with sink(http_recorder.url, mode=mode) as out:
        assert await out.send(events) == []
    assert len(http_recorder.requests) == 200
    read = [
        read_with_python(Record("HTTP", request.headers, request.body))
        for request in http_recorder.requests
    ]
    assert sorted(int(e.attributes["id"]) for e in read) == list(range(200))
    assert {e.data["n"] for e in read} == set(range(200))
    if mode == "structured":
        assert {e.attributes["subject"] for e in read} == {"a%20€"}


async def test_flaky_http_server_gets_the_rest_after_the_retries(http_recorder):
    failed = set()

    def reply(request):
        number = json.loads(request.body)["id"]
        if int(number) % 3 == 0 and number not in failed:
            failed.add(number)
            return Answer(503, {"Retry-After": "2"}, b"busy")
        return Answer(200, {}, b"done")

    http_recorder.answer = reply
    async with sink(http_recorder.url) as out:
        events = [event(n, f"/{n}") for n in range(30)]
        failures = await out.send(events)
        assert [f.position for f in failures] == list(range(0, 30, 3))
        assert {(f.outcome, f.retry_after, f.body) for f in failures} == {
            (Outcome.RELEASED, 2.0, b"busy")
        }
        assert await out.send([events[f.position] for f in failures]) == []


@pytest.fixture
def fastapi_server():
    """A FastAPI application on uvicorn; yields its port, what it got, and its settings."""
    app = fastapi.FastAPI()
    got = []

    @app.post("/events", status_code=202)
    async def take(request: fastapi.Request):
        got.append((dict(request.headers), await request.body()))
        return {"ok": True}

    listener = socket.create_server(("127.0.0.1", 0))
    # Its own way of logging would stay for the tests that come after this one.
    config = uvicorn.Config(app, log_config=None, timeout_keep_alive=1, limit_max_requests=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1], got
    server.should_exit = True
    thread.join()
    listener.close()


async def test_fastapi_receives_events_and_its_keep_alive_timeout_costs_none(fastapi_server):
    port, got = fastapi_server
    async with sink(f"http://localhost:{port}/events", connections=4) as out:
        for round_number in range(3):
            events = [event(10 * round_number + n, f"/{n}") for n in range(10)]
            assert await out.send(events) == []
            await asyncio.sleep(1.05)  # uvicorn closes idle connections after a second
    assert sorted(json.loads(body)["id"] for _, body in got) == sorted(str(n) for n in range(30))
    assert {headers["content-type"] for headers, _ in got} == {"application/cloudevents+json"}


async def test_source_and_sink_of_two_gateways_understand_each_other(http_recorder):
    intake = RecordingIntake()
    async with source(intake) as url:
        for mode in ("structured", "binary"):
            async with sink(url, mode=mode) as out:
                assert await out.send([event(n) for n in range(50)]) == []
        async with sink(url, batch=True) as out:
            assert await out.send([event(n) for n in range(50)]) == []
    assert intake.events == [event(n) for n in range(50)] * 3
