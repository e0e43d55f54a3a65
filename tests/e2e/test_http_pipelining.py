"""The HTTP sink with `pipelining` against Node's HTTP server, which is none of ours."""

import json
import subprocess

import pytest

from bindings.event import Event
from gateway.sinks.http import HttpSink, HttpSinkConfig
from tests.e2e.conftest import skipping_what_is_missing
from tests.e2e.servers import program

pytestmark = pytest.mark.e2e

# Answers after a while that differs, so that an order which is not kept would show; tells how many
# requests were in its hands at the same time on one connection, and what it was sent.
PROGRAM = """
const http = require("http");
const closing = process.argv[1] === "closing";
const ids = [], under = new Map();
let most = 0, sockets = 0;
const server = http.createServer((request, response) => {
  const socket = request.socket;
  under.set(socket, (under.get(socket) || 0) + 1);
  most = Math.max(most, under.get(socket));
  let body = "";
  request.on("data", (part) => { body += part; });
  request.on("end", () => {
    if (request.method === "GET") {
      response.end(JSON.stringify({ ids, most, sockets }));
      return;
    }
    const id = Number(JSON.parse(body).id);
    ids.push(id);
    setTimeout(() => {
      under.set(socket, under.get(socket) - 1);
      if (closing) response.setHeader("Connection", "close");
      response.statusCode = id % 10 === 3 ? 400 : 202;
      response.end(id % 2 ? "said " + id : undefined);
    }, (id * 7) % 5);
  });
});
server.on("connection", () => { sockets += 1; });
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""
EVENTS = [Event(id=str(number), source=f"/{number % 40}", type="t") for number in range(200)]


@pytest.fixture
def serve():
    started = []

    def serve(*arguments):
        with skipping_what_is_missing():
            node = program("node", "nodejs")
        process = subprocess.Popen(
            [node, "-e", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return int(process.stdout.readline())

    yield serve
    for process in started:
        process.kill()
        process.wait(10)
        process.stdout.close()


async def deliver(port, **config):
    sink = HttpSink(HttpSinkConfig(name="out", url=f"http://127.0.0.1:{port}/", **config))
    await sink.open()
    try:
        return await sink.send(EVENTS)
    finally:
        await sink.close()


def seen(port):
    return json.loads(
        subprocess.run(
            [program("curl", "curl"), "-s", f"http://127.0.0.1:{port}/"],
            stdout=subprocess.PIPE,
            timeout=30,
            check=True,
        ).stdout
    )


async def test_node_answers_pipelined_requests_in_their_order(serve):
    port = serve()
    failures = await deliver(port, pipelining=16, connections=2)
    assert [(f.position, f.status, f.body) for f in failures] == [
        (number, 400, b"said %d" % number) for number in range(200) if number % 10 == 3
    ]
    found = seen(port)
    assert sorted(found["ids"]) == list(range(200))  # each once
    assert 1 < found["most"] <= 16
    assert found["sockets"] <= 3  # one of them is curl's
    for key in range(40):
        of_key = [number for number in found["ids"] if number % 40 == key]
        assert of_key == sorted(of_key)


async def test_each_event_reaches_a_node_that_closes_after_each_answer(serve):
    port = serve("closing")
    failures = await deliver(port, pipelining=8, connections=4)
    assert [f.position for f in failures if f.status != 400] == []
    found = seen(port)
    assert set(found["ids"]) == set(range(200))
    assert max(found["ids"].count(number) for number in found["ids"]) <= 2
