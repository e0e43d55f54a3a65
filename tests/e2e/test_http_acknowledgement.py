"""The HTTP source with curl and http.client while the gateway is stopped, killed or has no room."""

import asyncio
import contextlib
import http.client
import itertools
import signal
import threading
from collections.abc import Iterator

import pytest

from gateway.config.records import Address
from gateway.delivery import ACCEPTED
from gateway.sources.http import HttpSource, HttpSourceConfig
from tests.e2e.bad_input.peers import HttpPeer, http_post
from tests.e2e.servers import HOST, Answer, Gateway, program
from tests.e2e.servers.process import poll_until
from tests.helpers import RecordingIntake

EVENT = '{"specversion":"1.0","id":"%s","source":"/s","type":"t"}'
CE_JSON = ("-H", "Content-Type: application/cloudevents+json")
STRUCTURED = b"Content-Type: application/cloudevents+json"


@contextlib.contextmanager
def running(folder, sink, state=None, limits=None, **delivery) -> Iterator[Gateway]:
    delivery = {"retry": 0, "spool": "off", "dead_letters": "off", **delivery}
    config = {
        "limits": limits or {},
        "state": {"path": str(folder / "state"), **(state or {})},
        "sources": {"web": {"protocol": "http", "listen": f"{HOST}:0"}},
        "sinks": {"out": {"protocol": "http", "url": sink.url, "mode": "structured"}},
        "routes": [{"to": ["out"], "delivery": delivery}],
    }
    gateway = Gateway(folder, config).start()
    try:
        yield gateway
    finally:
        gateway.stop()


class Senders:
    """Threads that post on a connection each, as fast as they are answered, until it ends."""

    def __init__(self, port: int, count: int) -> None:
        self.accepted: list[str] = []
        self.refused: list[str] = []
        self.unanswered: list[str] = []
        self._port = port
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def wait_accepted(self, count: int) -> None:
        poll_until(lambda: len(self.accepted) >= count, 20, "events to be accepted")

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, sender: int) -> None:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=20)
        connection.connect()
        connection.auto_open = False  # one connection: no request is quietly sent again
        with contextlib.closing(connection):
            for number in itertools.count(1):
                if not self._post(connection, f"{sender}-{number}"):
                    return

    def _post(self, connection: http.client.HTTPConnection, name: str) -> bool:
        """Post an event; return False when the connection has ended."""
        headers = {"Content-Type": "application/cloudevents+json"}
        try:
            connection.request("POST", "/", EVENT % name, headers)
            with connection.getresponse() as response:
                response.read()
        except http.client.NotConnected:
            return False  # the answer before said so
        except (http.client.HTTPException, OSError):
            self.unanswered.append(name)
            return False
        (self.accepted if response.status == 202 else self.refused).append(name)
        return True


def wait_end(gateway: Gateway) -> int:
    """Return the exit code; a second SIGTERM would cut it short."""
    assert gateway._process is not None
    return gateway._process.wait(15)


def test_sigterm_under_load_leaves_no_request_half_done(tmp_path, sink):
    """Exactly what was answered 202 has arrived: what has no answer was not read either."""
    sink.gate.set()
    with running(tmp_path, sink) as gateway:
        senders = Senders(gateway.ports["web"], 16)
        senders.wait_accepted(200)
        gateway.signal(signal.SIGTERM)
        senders.join()
        assert wait_end(gateway) == 0
    assert sorted(sink.ids()) == sorted(senders.accepted)
    assert len(senders.refused) + len(senders.unanswered) <= 16


def test_what_is_acknowledged_under_a_kill_has_arrived(tmp_path, sink):
    sink.gate.set()
    with running(tmp_path, sink) as gateway:
        for _ in range(3):
            senders = Senders(gateway.ports["web"], 8)
            senders.wait_accepted(100)
            gateway.kill()
            senders.join()
            assert set(senders.accepted) <= set(sink.ids())
            assert senders.refused == []
            sink.forget()
            gateway.start()


@pytest.mark.parametrize("ack", ["stored", "sink"])
def test_what_was_stored_for_a_sink_in_trouble_outlives_a_kill(tmp_path, sink, ack):
    """stored: at once; sink: because the first attempt has failed."""
    sink.answer = lambda _: Answer(503)
    stored = {"ack": ack, "spool": "auto", "dead_letters": "local", "retry": 10}
    batch = b"[%b,%b]" % tuple((EVENT % name).encode() for name in ("21", "22"))
    binary = (b"ce-specversion: 1.0", b"ce-id: 23", b"ce-source: /s", b"ce-type: t")
    with running(tmp_path, sink, **stored) as gateway:
        with HttpPeer(gateway.ports["web"]) as client:
            for number in range(1, 21):
                client.send(http_post((EVENT % number).encode(), STRUCTURED))
            client.send(http_post(batch, b"Content-Type: application/cloudevents-batch+json"))
            client.send(http_post(b"", *binary))
            assert client.statuses(22) == [202] * 22
        gateway.kill()
        sink.forget()
        sink.answer = lambda _: Answer(202)
        gateway.start()
        sink.wait_for(lambda requests: len(requests) >= 23, 20)
    first = list(dict.fromkeys(sink.ids()))
    assert first == [str(number) for number in range(1, 24)]


def test_a_full_spool_is_503_with_retry_after_until_there_is_room(tmp_path, sink):
    sink.answer = lambda _: Answer(503)
    stored = {"ack": "stored", "spool": "auto", "dead_letters": "local", "retry": 100}
    accepted, refused = [], []
    with (
        running(
            tmp_path, sink, state={"max_bytes": 2**23}, limits={"inflight": 20}, **stored
        ) as gateway,
        HttpPeer(gateway.ports["web"]) as client,
    ):
        for number in range(200):  # 12 MB
            body = (EVENT % number).encode()
            padded = body[:-1] + b',"data":"%b"}' % (b"x" * 60_000)
            client.send(http_post(padded, STRUCTURED))
            answer = client.answer()
            assert answer is not None
            if answer.status == 202:
                accepted.append(str(number))
                continue
            assert (answer.status, answer.fields["retry-after"]) == (503, "1")
            assert len(answer.body) <= 768
            refused.append((number, padded))
        assert accepted
        assert refused
        sink.requests.clear()
        sink.answer = lambda _: Answer(202)
        number, padded = refused[0]

        def is_taken_again() -> bool:
            client.send(http_post(padded, STRUCTURED))
            return client.statuses(1) == [202]

        poll_until(is_taken_again, 20, "room in the spool")
        sink.wait_for(lambda _: {*accepted, str(number)} <= set(sink.ids()), 20)
    assert list(dict.fromkeys(sink.ids())) == [*accepted, str(number)]


def test_killed_while_the_sink_thinks_nobody_was_told_202(tmp_path, sink):
    with running(tmp_path, sink) as gateway, HttpPeer(gateway.ports["web"]) as client:
        client.send(http_post((EVENT % "1").encode(), STRUCTURED))
        sink.wait_asked()
        gateway.kill()
        with contextlib.suppress(ConnectionResetError):
            assert client.answer() is None


def test_at_the_end_who_waits_is_answered_and_who_comes_is_refused(tmp_path, sink):
    with (
        running(tmp_path, sink) as gateway,
        HttpPeer(gateway.ports["web"]) as waiting,
        HttpPeer(gateway.ports["web"]) as idle,
        HttpPeer(gateway.ports["web"]) as slow,
    ):
        waiting.send(http_post((EVENT % "1").encode(), STRUCTURED))
        sink.wait_asked()
        request = http_post((EVENT % "2").encode(), STRUCTURED)
        slow.send(request[:-5])
        gateway.signal(signal.SIGTERM)
        poll_until(lambda: "draining" in gateway.log, 10, "the gateway to drain")
        idle.send(request)
        for each in (slow, idle):
            refused = each.answer()
            assert refused is not None
            assert (refused.status, refused.fields["connection"]) == (503, "close")
            assert refused.fields["retry-after"] == "5"
            each.close()
        waiting.send(request)  # behind the one that is under way
        sink.gate.set()
        assert waiting.statuses(2) == [202, 503]
        waiting.close()
        assert wait_end(gateway) == 0
    assert sink.ids() == ["1"]


# curl, against a source whose pipeline is played.


@contextlib.asynccontextmanager
async def source(intake, **config):
    adapter = HttpSource(HttpSourceConfig(name="web", listen=Address(HOST, 0), **config))
    await adapter.open(intake)
    try:
        yield adapter, f"http://{HOST}:{adapter.address.port}/"
    finally:
        await adapter.close()


async def curl(url, *arguments, stdin=b""):
    """Return curl's exit code, what it prints of statuses, and the body."""
    process = await asyncio.create_subprocess_exec(
        *(program("curl", "curl"), "-sS", "--max-time", "20", "-w", "\n%{http_code}"),
        *arguments,
        url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate(stdin)
    return process.returncode, out.decode()


class OneRefusal(RecordingIntake):
    """Has no room for the first list."""

    refused = 0

    def try_submit(self, deliveries):
        if not self.refused:
            self.refused += 1
            return False
        return super().try_submit(deliveries)


@pytest.mark.parametrize("expect", [(), ("-H", "Expect: 100-continue")], ids=["", "100-continue"])
async def test_curl_comes_back_when_it_was_told_to(expect):
    intake = OneRefusal()
    async with source(intake) as (_, url):
        arguments = (*CE_JSON, *expect, "--retry", "2", "-d", EVENT % "1")
        code, out = await curl(url, *arguments)
    assert (code, out.split()[-1]) == (0, "202")
    assert intake.refused == 1
    assert [event.id for event in intake.events] == ["1"]


async def test_curl_that_gives_up_waiting_harms_nobody():
    """Its event is delivered later; the gateway can't tell it, and so it may send it again."""
    intake = RecordingIntake(lambda _: None)
    async with source(intake) as (_, url):
        asking = asyncio.ensure_future(curl(url, *CE_JSON, "--max-time", "2", "-d", EVENT % "1"))
        await intake.wait_for(lambda intake: intake.deliveries)
        assert (await asking)[0] == 28  # its time was up
        intake.deliveries[0].settle(ACCEPTED)
        intake.answer = lambda _: ACCEPTED
        assert (await curl(url, *CE_JSON, "-d", EVENT % "1"))[1].split()[-1] == "202"
    assert [event.id for event in intake.events] == ["1", "1"]


async def test_curl_that_still_uploads_at_the_end_reads_why_it_was_refused(tmp_path):
    body = tmp_path / "body"
    body.write_text((EVENT % "1").ljust(60_000))
    intake = RecordingIntake()
    async with source(intake) as (adapter, url):
        upload = ("-H", "Expect:", "--limit-rate", "20k", "--data-binary", f"@{body}")
        sending = asyncio.ensure_future(curl(url, *CE_JSON, *upload))
        connections = adapter._listener._connections
        while not any(not connection.is_idle for connection in connections):
            await asyncio.sleep(0.01)
        await adapter.drain()
        code, out = await sending
    assert (code, out) == (0, "shutting down\n\n503")
    assert intake.events == []
