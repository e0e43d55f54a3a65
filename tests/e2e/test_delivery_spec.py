"""Knative's delivery spec with a gateway of its own process and sinks of the standard library.

The table of statuses is that of Knative's data-plane.md. Each event is one row: the sink answers by
its id, the sender is told once the event has arrived or is with the dead letters.
"""

import base64
import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.e2e.bad_input.peers import HttpPeer, http_post
from tests.e2e.servers import HOST, Answer, Gateway, HttpRecorder, RecordedRequest, free_port

STRUCTURED = b"Content-Type: application/cloudevents+json"
RETRY = 2
HASTY = {"timeout": "PT1.5S"}  # where an attempt ends by it; its dead letter has as much
REPLY = b'{"specversion":"1.0","id":"reply","source":"/r","type":"t"}'
CE_JSON = {"Content-Type": "application/cloudevents+json"}


@dataclass(frozen=True)
class Row:
    """What the sink answers (None closes), how often it is asked, what the dead letter says.

    The type of its event has the event take a route of its own.
    """

    answer: Answer | None
    attempts: int
    code: int | None = None
    event_type: str = "t"


def again(status: int, **fields: str) -> Row:
    return Row(Answer(status, fields, b"why"), RETRY + 1, status)


def final(status: int, **fields: str) -> Row:
    return Row(Answer(status, fields, b"why"), 1, status)


ROWS = {
    "200": Row(Answer(200), 1),
    "200 with a reply event": Row(Answer(200, CE_JSON, REPLY), 1),
    "202": Row(Answer(202), 1),
    "202 with an event": Row(Answer(202, CE_JSON, REPLY), 1),
    "204": Row(Answer(204), 1),
    "299": Row(Answer(299), 1),
    "404": again(404),
    "408": again(408),
    "409": again(409),
    "429": again(429),
    "500": again(500),
    "501": again(501),
    "502": again(502),
    "503": again(503),
    "504": again(504),
    "599": again(599),
    "no response": Row(None, RETRY + 1, 500),
    "timeout": Row(Answer(202, delay=10), RETRY + 1, 500, "hasty"),
    "400": final(400),
    "401": final(401),
    "403": final(403),
    "405": final(405),
    "410": final(410),
    "413": final(413),
    "499": final(499),
    "300": final(300),
    "301": final(301, Location="/elsewhere"),
    "307": final(307, Location="/elsewhere"),
    "308": final(308, Location="/elsewhere"),
}


class Bench:
    """A gateway, the sink that answers by the table, and the dead-letter sink."""

    def __init__(self, gateway: Gateway, sink: HttpRecorder, dead: HttpRecorder) -> None:
        self.port = gateway.ports["http"]
        self.sink = sink
        self.dead = dead
        self.asked: Counter[str] = Counter()
        self.targets: set[str] = set()
        self.failing_letters: Counter[str] = Counter()
        sink.answer = self._answer
        dead.answer = self._take_letter

    def _answer(self, request: RecordedRequest) -> Answer:
        name = json.loads(request.body)["id"]
        self.asked[name] += 1
        self.targets.add(request.target)
        answer = ROWS[name].answer if name in ROWS else Answer(400)
        if answer is None:
            raise ConnectionAbortedError("no answer")  # the server closes
        # Else an attempt may meet a connection that was idle: `TRAPS` are about those.
        return replace(answer, headers={**answer.headers, "Connection": "close"})

    def _take_letter(self, request: RecordedRequest) -> Answer:
        name = json.loads(request.body)["id"]
        if self.failing_letters[name] > 0:
            self.failing_letters[name] -= 1
            return Answer(503)
        return Answer(202)

    def post(self, name: str, event_type: str = "t", **attributes: object) -> int:
        """Return the status that the sender is told."""
        source = "/" + name.replace(" ", "-")  # a key for each: rows don't wait for others
        event = {"specversion": "1.0", "id": name, "source": source, "type": event_type}
        body = json.dumps({**event, **attributes}).encode()
        with HttpPeer(self.port) as peer:
            peer.send(http_post(body, STRUCTURED))
            (status,) = peer.statuses(1)
        return status

    def letters(self, name: str) -> list[dict[str, object]]:
        """Return what Knative's attributes say on the requests for a dead letter."""
        return [
            {key: value for key, value in letter.items() if key.startswith("knativeerror")}
            for request in self.dead.requests
            for letter in (json.loads(request.body),)
            if letter["id"] == name
        ]


@pytest.fixture(scope="module")
def half_open() -> Iterator[socket.socket]:
    """A server that has stopped: the kernel takes connections, nobody reads them."""
    with socket.create_server((HOST, 0), backlog=16) as listener:
        yield listener


@pytest.fixture(scope="module")
def bench(tmp_path_factory, half_open) -> Iterator[Bench]:
    with contextlib.ExitStack() as running:
        sink, dead = (running.enter_context(HttpRecorder()) for _ in range(2))
        urls = {
            "out": f"{sink.url}/events",
            "stopped": f"http://{HOST}:{half_open.getsockname()[1]}/",
            "absent": f"http://{HOST}:{free_port()}/",
        }
        routes = [("out", "t", {}), ("out", "hasty", HASTY)]
        routes += [("stopped", "stopped", HASTY), ("absent", "absent", {})]
        config = {
            "sources": {"http": {"protocol": "http", "listen": f"{HOST}:0"}},
            "sinks": {name: {"protocol": "http", "url": url} for name, url in urls.items()},
            "routes": [
                {"to": [name], "filter": {"exact": {"type": kind}}, "delivery": delivery}
                for name, kind, delivery in routes
            ],
            "delivery": {
                "retry": RETRY,
                "backoffPolicy": "linear",
                "backoffDelay": "PT0.01S",
                "timeout": "PT20S",
                "deadLetterSink": f"{dead.url}/letters",
                "spool": "off",
                "dead_letters": "off",
            },
        }
        gateway = Gateway(tmp_path_factory.mktemp("delivery"), config).start()
        running.callback(gateway.stop)
        yield Bench(gateway, sink, dead)
        gateway.finish()


@pytest.mark.parametrize("name", ROWS)
def test_each_answer_leads_to_this_many_attempts_and_to_this_dead_letter(bench, name):
    row = ROWS[name]
    assert bench.post(name, row.event_type) == 202
    assert bench.asked[name] == row.attempts
    letter = {"knativeerrordest": f"{bench.sink.url}/events", "knativeerrorcode": row.code}
    if row.answer is not None and row.answer.body and row.code is not None:
        letter["knativeerrordata"] = base64.b64encode(row.answer.body).decode()
    assert bench.letters(name) == ([] if row.code is None else [letter])


def test_redirects_lead_nowhere_and_replies_are_neither_asked_for_nor_sent_on(bench):
    for name in ("200 with a reply event", "202 with an event", "301", "307", "308"):
        bench.post(name)
    assert bench.targets == {"/events"}
    requests = [*bench.sink.requests, *bench.dead.requests]
    assert "reply" not in {json.loads(request.body)["id"] for request in requests}
    assert {request.header("Prefer") for request in requests} == {None}


def test_a_sink_that_has_stopped_is_asked_again_each_time_its_timeout_is_over(bench, half_open):
    assert bench.post("stopped", "stopped") == 202
    half_open.settimeout(5)
    for _ in range(RETRY + 1):
        half_open.accept()[0].close()
    half_open.settimeout(0.2)
    with pytest.raises(TimeoutError):
        half_open.accept()
    (letter,) = bench.letters("stopped")
    assert letter["knativeerrorcode"] == 500


def test_a_sink_that_is_not_there_leads_to_a_dead_letter(bench):
    assert bench.post("absent", "absent") == 202
    (letter,) = bench.letters("absent")
    assert letter["knativeerrorcode"] == 500
    assert "knativeerrordata" not in letter


def test_a_dead_letter_is_tried_again_by_the_same_spec(bench):
    bench.failing_letters["late letter"] = RETRY
    assert bench.post("late letter") == 202
    assert len(bench.letters("late letter")) == RETRY + 1


def test_when_the_dead_letter_sink_fails_too_the_sender_keeps_its_event(bench):
    bench.failing_letters["late letter"] = 100
    before = len(bench.letters("late letter"))
    assert bench.post("late letter") == 503
    assert len(bench.letters("late letter")) - before == RETRY + 1
    bench.failing_letters["late letter"] = 0


def test_what_an_earlier_failure_left_on_the_event_is_replaced(bench):
    old = {"knativeerrordest": "old", "knativeerrorcode": 418, "knativeerrordata": "b2xk"}
    assert bench.post("replayed", **old) == 202
    assert bench.letters("replayed") == [
        {"knativeerrordest": f"{bench.sink.url}/events", "knativeerrorcode": 400}
    ]


def test_on_a_route_with_a_spool_the_attempts_are_the_same(gateway):
    statuses = (503, 404, 429, 500, 400)
    with HttpRecorder() as sink, HttpRecorder() as dead:
        asked: Counter[str] = Counter()

        def answer(request: RecordedRequest) -> Answer:
            name = json.loads(request.body)["id"]
            asked[name] += 1
            return Answer(int(name.split("-")[0]), {"Connection": "close"})

        sink.answer = answer
        process = gateway(
            {
                "sources": {"http": {"protocol": "http", "listen": f"{HOST}:0"}},
                "sinks": {"out": {"protocol": "http", "url": sink.url}},
                "routes": [{"to": ["out"]}],
                "delivery": {
                    "retry": RETRY,
                    "backoffDelay": "PT0.01S",
                    "deadLetterSink": dead.url,
                },
            }
        )
        # A success in between: five failures in a row would open the sink's circuit.
        for name in [f"{status}-{n}" for n in statuses for status in (n, 202)]:
            event = {"specversion": "1.0", "id": name, "source": f"/{name}", "type": "t"}
            with HttpPeer(process.ports["http"]) as peer:
                peer.send(http_post(json.dumps(event).encode(), STRUCTURED))
                assert peer.statuses(1) == [202]
            arrived = sink if name.startswith("202") else dead
            arrived.wait_for(lambda got, name=name: any(name.encode() in r.body for r in got))
        assert asked == {
            **{f"202-{status}": 1 for status in statuses},
            **{f"{status}-{status}": RETRY + 1 for status in statuses},
            "400-400": 1,
        }


class Flaky:
    """A sink on plain sockets that resets and cuts, on its own thread, as a list of deeds says.

    A deed is the bytes to answer, and whether to go on with the connection, close or reset it.
    """

    def __init__(self, deeds: list[tuple[bytes, str]]) -> None:
        self.ids: list[str] = []
        self._deeds = deeds
        self._listener = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, connection.makefile("rb") as reader:
                    while self._exchange(connection, reader):
                        pass

    def _exchange(self, connection, reader) -> bool:
        length = 0
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        body = reader.read(length)
        if not body:
            return False
        self.ids.append(json.loads(body)["id"])
        answer, then = self._deeds.pop(0) if self._deeds else (ACCEPTED, "")
        connection.sendall(answer)
        if then == "reset":
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return not then

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
CUT = b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nabc"
# What the sink does with each request in turn; how often it then sees event 1 and event 2.
TRAPS = {
    "stale connection": ([(ACCEPTED, ""), (b"", "close")], 1, 2),
    "stale connection, reset": ([(ACCEPTED, ""), (b"", "reset")], 1, 2),
    "closed after the answer": ([(ACCEPTED, "close")], 1, 1),
    "reset in the body of 202": ([(CUT, "reset")], 1, 1),
    "cut in the body of 202": ([(CUT, "close")], 1, 1),
}


@pytest.mark.parametrize("name", TRAPS)
def test_without_retries_a_trap_of_keep_alive_costs_no_event(gateway, name):
    deeds, *times = TRAPS[name]
    with contextlib.closing(Flaky(list(deeds))) as sink:
        process = gateway(
            {
                "sources": {"http": {"protocol": "http", "listen": f"{HOST}:0"}},
                "sinks": {"out": {"protocol": "http", "url": sink.url, "connections": 1}},
                "routes": [{"to": ["out"]}],
                "delivery": {"retry": 0, "spool": "off", "dead_letters": "off"},
            }
        )
        for event_id in ("1", "2"):
            event = {"specversion": "1.0", "id": event_id, "source": "/s", "type": "t"}
            with HttpPeer(process.ports["http"]) as peer:
                peer.send(http_post(json.dumps(event).encode(), STRUCTURED))
                assert peer.statuses(1) == [202]
        assert [sink.ids.count(event_id) for event_id in ("1", "2")] == times
        process.stop()
