"""The command against foreign servers: Python's own HTTP server, and none at all."""

import http.server
import json
import threading

import pytest

from tests.gateway.cli.processes import ce_gateway


class Recorder(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((dict(self.headers.items()), body))
        status = self.server.answers.pop() if self.server.answers else 202
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_): ...


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        self.requests, self.answers = [], []
        super().__init__(("127.0.0.1", 0), Recorder)
        self.url = f"http://127.0.0.1:{self.server_port}/"


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


async def send(*arguments):
    async with ce_gateway("send", *arguments) as process:
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


async def test_an_event_in_binary_mode(server):
    arguments = ["--type", "com.acme.t", "--source", "/d/1", "--id", "7", "--subject", "s"]
    code, out, _ = await send(server.url, *arguments, "--data", '{"a": 1}', "-e", "color=red")
    assert (code, out) == (0, "202 Accepted\n")
    ((headers, body),) = server.requests
    sent = {name.lower(): value for name, value in headers.items()}
    assert body == b'{"a": 1}'
    assert sent["content-type"] == "application/json"
    assert {name: sent[f"ce-{name}"] for name in ("type", "source", "id", "subject", "color")} == {
        "type": "com.acme.t",
        "source": "/d/1",
        "id": "7",
        "subject": "s",
        "color": "red",
    }


async def test_an_event_in_structured_mode_from_a_file(server, tmp_path):
    (tmp_path / "data.json").write_text('{"a": 1}')
    code, _, _ = await send(server.url, "--mode", "structured", "--data", f"@{tmp_path}/data.json")
    assert code == 0
    ((headers, body),) = server.requests
    sent = {name.lower(): value for name, value in headers.items()}
    assert sent["content-type"].startswith("application/cloudevents+json")
    assert json.loads(body)["data"] == {"a": 1}


async def test_a_plain_payload_is_sent_as_it_is(server):
    await send(server.url, "--plain", "--data", "21.5", "--datacontenttype", "text/x")
    ((headers, body),) = server.requests
    assert body == b"21.5"
    assert [name for name in headers if name.lower().startswith("ce-")] == []


async def test_a_load_reports_rate_percentiles_and_failures(server):
    server.answers = [503]
    code, out, _ = await send(
        server.url, "-n", "20", "--concurrency", "4", "--size", "100", "--devices", "3", "--json"
    )
    figures = json.loads(out)
    assert code == 1
    assert (figures["sent"], figures["acknowledged"], figures["failed"]) == (20, 19, 1)
    assert figures["answers"] == {"202 Accepted": 19}
    assert [text.split()[0] for text in figures["failures"]] == ["503"]
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["max"]
    assert figures["rate"] > 0
    sources = {
        value
        for headers, _ in server.requests
        for name, value in headers.items()
        if name.lower() == "ce-source"
    }
    assert sources == {f"/ce-gateway/send/{i}" for i in range(3)}
    assert {len(body) for _, body in server.requests} == {100}


async def test_a_refusal_is_a_failure_in_the_protocols_words(server):
    server.answers = [400]
    code, out, err = await send(server.url)
    assert (code, out) == (1, "")
    assert err.startswith("400 Bad Request")


async def test_nobody_there_is_a_failure_without_a_traceback():
    code, _, err = await send("http://127.0.0.1:1/", "--timeout", "2")
    assert code == 1
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["ftp://127.0.0.1/"],
        ["127.0.0.1"],
        ["http://"],
        ["nats://127.0.0.1"],
        ["nats://127.0.0.1:port/a"],
        ["mqtt://127.0.0.1"],
        ["kafka://127.0.0.1"],
        ["amqp://127.0.0.1/ce"],
        ["http://127.0.0.1:1/", "--data", "1", "--size", "5"],
        ["http://127.0.0.1:1/", "-e", "novalue"],
        ["http://127.0.0.1:1/", "-e", "Big=x"],
        ["http://127.0.0.1:1/", "--data", "@/nonexistent"],
        ["http://127.0.0.1:1/", "-n", "0"],
        ["http://127.0.0.1:1/", "--qos", "3"],
    ],
)
async def test_wrong_arguments_are_wrong_usage(arguments):
    code, _, err = await send(*arguments)
    assert code == 2
    assert "Error: " in err
