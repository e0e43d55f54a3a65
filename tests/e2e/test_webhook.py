"""Webhooks both ways, as processes: foreign senders to the gateway, and it to foreign receivers.

http-webhook.md; the names in capitals are the requirements' in conformance/requirements.
"""

import contextlib
import http.client
import json
import subprocess
import threading
import time
import urllib.parse

import pytest

from tests.e2e.readers.sdk import HERE
from tests.e2e.servers import HOST, Answer, MissingError, free_port, poll_until, program

STRUCTURED = '{"specversion":"1.0","id":"s1","source":"/s","type":"t","data":{"a": 1}}'
CE_JSON = {"Content-Type": "application/cloudevents+json"}
ORIGIN = {"WebHook-Request-Origin": "events.example.com"}

NODE_CLIENT = """
const { method, url, headers, body } = JSON.parse(process.argv[1]);
const answer = await fetch(url, { method, headers, body: body ?? undefined, redirect: "error" });
console.log(JSON.stringify([answer.status, [...answer.headers], await answer.text()]));
"""


def ask_with_node(method, url, headers, body):
    question = {"method": method, "url": url, "headers": headers, "body": body}
    command = [program("node", "nodejs"), "--input-type=module", "-e", NODE_CLIENT]
    done = subprocess.run(
        [*command, json.dumps(question)], capture_output=True, text=True, timeout=30, check=True
    )
    status, fields, text = json.loads(done.stdout)
    return status, {name.lower(): value for name, value in fields}, text


def ask_with_curl(method, url, headers, body):
    arguments = ["-sS", "-i", "-X", method, "--max-time", "20"]
    for name, value in headers.items():
        arguments += ["-H", f"{name}: {value}"]
    if body is not None:
        arguments += ["--data-binary", body]
    done = subprocess.run(
        [program("curl", "curl"), *arguments, url], capture_output=True, timeout=30, check=True
    )
    head, _, text = done.stdout.decode().partition("\r\n\r\n")
    line, *lines = head.split("\r\n")
    fields = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
    return int(line.split()[1]), fields, text


def ask_with_python(method, url, headers, body):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    with contextlib.closing(connection):
        resource = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, resource, body, headers)
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, fields, answer.read().decode()


@pytest.fixture(params=[ask_with_curl, ask_with_node, ask_with_python])
def ask(request):
    return request.param


@pytest.fixture
def receiving(gateway, http_recorder):
    """A gateway whose source takes webhooks; returns a function that starts it."""

    def start(**source):
        process = gateway(
            {
                "sources": {"web": {"protocol": "http", "listen": f"{HOST}:0", **source}},
                "sinks": {"out": {"protocol": "http", "url": http_recorder.url}},
                "routes": [{"to": ["out"]}],
            }
        )
        return process, f"http://{HOST}:{process.ports['web']}"

    return start


class TestReceiving:
    # WH-ABU-001, WH-VRS-001, WH-VAL-003, WH-AUT-002, WH-AUT-009, WH-RSP-007
    def test_a_sender_asks_for_consent_and_delivers(self, receiving, http_recorder, ask):
        process, url = receiving(
            path="/hook",
            token="s3cret",
            allowed_origins=["events.example.com"],
            allowed_rate=120,
            require_origin=True,
        )
        hook, bearer = f"{url}/hook", {"Authorization": "Bearer s3cret"}
        status, fields, _ = ask("OPTIONS", hook, {**ORIGIN, "WebHook-Request-Rate": "500"}, None)
        assert (status, fields["allow"]) == (200, "POST, OPTIONS")
        assert fields["webhook-allowed-origin"] == "events.example.com"
        assert fields["webhook-allowed-rate"] == "120"
        evil = {"WebHook-Request-Origin": "events.example.com.evil.org"}
        _, fields, _ = ask("OPTIONS", hook, evil, None)
        assert not [name for name in fields if name.startswith("webhook")]

        headers = {**CE_JSON, **ORIGIN}
        status, fields, text = ask("POST", hook, {**headers, **bearer}, STRUCTURED)
        assert (status, text, "cache-control" in fields) == (202, "", False)
        status, fields, _ = ask("POST", f"{hook}?a=b&access_token=s3cret", headers, STRUCTURED)
        assert (status, fields["cache-control"]) == (202, "private")
        http_recorder.wait_for(lambda requests: len(requests) == 2)

        assert ask("POST", hook, headers, STRUCTURED)[0] == 401
        assert ask("POST", hook, {**CE_JSON, **bearer}, STRUCTURED)[0] == 403
        assert ask("POST", hook, {**CE_JSON, **evil, **bearer}, STRUCTURED)[0] == 403
        twice = f"{hook}?access_token=s3cret"
        assert ask("POST", twice, {**headers, **bearer}, STRUCTURED)[0] == 400
        unknown = {**headers, **bearer, "Content-Type": "application/cloudevents+unknown"}
        assert ask("POST", hook, unknown, "x")[0] == 415
        assert ask("PUT", hook, {**headers, **bearer}, STRUCTURED)[0] == 405
        assert len(http_recorder.requests) == 2
        assert "s3cret" not in process.log

    # WH-RSP-008
    def test_a_retired_address(self, receiving, ask):
        _, url = receiving(retired=True)
        assert ask("POST", f"{url}/", {**CE_JSON, **ORIGIN}, STRUCTURED)[0] == 410
        status, fields, _ = ask("OPTIONS", f"{url}/", ORIGIN, None)
        assert (status, "webhook-allowed-origin" in fields) == (410, False)

    # WH-RSP-010, WH-RSP-011: curl waits as Retry-After says and then gets through.
    def test_curl_retries_when_it_may(self, receiving, http_recorder):
        _, url = receiving(allowed_rate=30)
        headers = {**CE_JSON, **ORIGIN}
        began, taken, status = time.monotonic(), 0, 202
        while status == 202:
            status, fields, _ = ask_with_python("POST", f"{url}/", headers, STRUCTURED)
            taken += status == 202
        # One more every two seconds.
        assert 30 <= taken <= 30 + (time.monotonic() - began) / 2
        assert (status, 1 <= int(fields["retry-after"]) <= 2) == (429, True)
        arguments = [f"-H{name}: {value}" for name, value in headers.items()]
        done = subprocess.run(
            [
                *(program("curl", "curl"), "-sS", "--retry", "3", "-w", "%{http_code}"),
                *(*arguments, "-d", STRUCTURED, f"{url}/"),
            ],
            capture_output=True,
            timeout=30,
            check=True,
        )
        assert done.stdout.endswith(b"202")
        http_recorder.wait_for(lambda requests: len(requests) == taken + 1)


NODE_RECEIVER = """
import http from "node:http";
import * as sdk from "cloudevents";
const { HTTP } = sdk.default ?? sdk;
const server = http.createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    const origin = request.headers["webhook-request-origin"];
    const line = { method: request.method, url: request.url, origin,
                   authorization: request.headers.authorization };
    if (request.method === "OPTIONS") {
      response.setHeader("Allow", "POST");
      response.setHeader("WebHook-Allowed-Origin", origin);
      response.setHeader("WebHook-Allowed-Rate", request.headers["webhook-request-rate"] ?? "*");
    } else {
      const event = HTTP.toEvent({ headers: request.headers, body });
      Object.assign(line, { id: event.id, type: event.type, data: event.data ?? null });
      response.statusCode = 204;
    }
    console.log(JSON.stringify(line));
    response.end();
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


class NodeReceiver:
    """A webhook's receiver of Node's own server and the npm package `cloudevents`."""

    def __init__(self):
        node = program("node", "nodejs")
        if not (HERE / "node_modules" / "cloudevents").is_dir():
            raise MissingError("the npm package cloudevents is missing: run .ci/servers")
        self.requests = []
        self._process = subprocess.Popen(
            [node, "--input-type=module", "-e", NODE_RECEIVER],
            cwd=HERE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}/hook?x=1"
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        for line in self._process.stdout:
            self.requests.append(json.loads(line))

    def close(self):
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)
        self._process.stdout.close()


def sending(gateway, url, env=None, ack_timeout="PT30S", **sink):
    """Start a gateway that delivers to a webhook; returns it and where it takes events."""
    sink = {"protocol": "http", "url": url, "token": "t0k3n", **sink}
    sink.setdefault("webhook", {"origin": "gw.example.com", "ask_again": "PT0.5S"})
    process = gateway(
        {
            "sources": {
                "web": {"protocol": "http", "listen": f"{HOST}:0", "ack_timeout": ack_timeout}
            },
            "sinks": {"hook": sink},
            "routes": [{"to": ["hook"]}],
            "delivery": {"retry": 0, "spool": "off", "dead_letters": "off"},
        },
        env,
    )
    return process, f"http://{HOST}:{process.ports['web']}/"


def post(url, event_id="s1", **headers):
    body = STRUCTURED.replace("s1", event_id)
    return ask_with_python("POST", url, {**CE_JSON, **headers}, body)


class TestSending:
    # WH-VAL-001, WH-VAL-002, WH-VAL-003, WH-DLV-002, WH-DLV-003, WH-AUT-005
    @pytest.mark.parametrize("mode", ["structured", "binary"])
    def test_a_receiver_of_node_and_the_official_sdk(self, gateway, mode):
        with contextlib.closing(NodeReceiver()) as receiver:
            webhook = {"origin": "gw.example.com", "rate": 60_000}
            _, url = sending(gateway, receiver.url, mode=mode, webhook=webhook)
            assert post(url, "one")[0] == 202
            attributes = {"ce-specversion": "1.0", "ce-id": "two", "ce-source": "/s"}
            empty = ask_with_python("POST", url, {**attributes, "ce-type": "t"}, None)
            assert empty[0] == 202
            poll_until(lambda: len(receiver.requests) == 3, 10, "three requests")
        common = {
            "url": "/hook?x=1",
            "origin": "gw.example.com",
            "authorization": "Bearer t0k3n",
        }
        assert receiver.requests == [
            {"method": "OPTIONS", **common},
            {"method": "POST", **common, "id": "one", "type": "t", "data": {"a": 1}},
            {"method": "POST", **common, "id": "two", "type": "t", "data": None},
        ]

    # WH-VRS-003: nothing is sent without consent, and the log says what is missing.
    def test_without_consent_an_event_waits_for_it(self, gateway, http_recorder):
        http_recorder.answer = lambda _: Answer(200, {"Allow": "POST"})
        process, url = sending(gateway, http_recorder.url, ack_timeout="PT0.5S")
        status, fields, _ = post(url)
        assert (status, fields["retry-after"]) == (504, "1")
        http_recorder.wait_for(lambda requests: len(requests) >= 3)
        assert "no WebHook-Allowed-Origin" in process.log
        consent = {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*"}
        http_recorder.answer = lambda _: Answer(200, consent)
        http_recorder.wait_for(lambda requests: requests[-1].method == "POST")
        *asked, delivered = http_recorder.requests
        assert {request.method for request in asked} == {"OPTIONS"}
        assert json.loads(delivered.body)["id"] == "s1"
        assert process.log.count("has no consent") == 1
        assert process.log.count("has consent to") == 1
        assert "t0k3n" not in process.log

    # WH-RSP-009
    def test_a_retired_receiver_gets_one_delivery(self, gateway, http_recorder):
        consent = {"WebHook-Allowed-Origin": "gw.example.com", "WebHook-Allowed-Rate": "*"}
        http_recorder.answer = lambda r: Answer(200 if r.method == "OPTIONS" else 410, consent)
        _, url = sending(gateway, http_recorder.url)
        assert [post(url, str(number))[0] for number in range(3)] == [422, 422, 422]
        assert [request.method for request in http_recorder.requests] == ["OPTIONS", "POST"]

    # WH-RSP-012
    def test_retry_after_is_observed_and_passed_on(self, gateway, http_recorder):
        consent = {"WebHook-Allowed-Origin": "gw.example.com", "WebHook-Allowed-Rate": "*"}
        http_recorder.answer = lambda r: (
            Answer(200, consent) if r.method == "OPTIONS" else Answer(429, {"Retry-After": "2"})
        )
        _, url = sending(gateway, http_recorder.url)
        began = time.monotonic()
        status, fields, _ = post(url, "one")
        assert (status, fields["retry-after"]) == (429, "2")
        http_recorder.answer = lambda _: Answer(204)
        # This one waits for the end of Retry-After: it is no failed attempt, so `retry: 0` is met.
        assert post(url, "two")[0] == 202
        assert time.monotonic() - began >= 2
        asked, *sent = http_recorder.requests
        assert asked.method == "OPTIONS"
        assert [json.loads(request.body)["id"] for request in sent] == ["one", "two"]

    # WH-RAT-006
    def test_the_granted_rate_is_kept(self, gateway, http_recorder):
        consent = {"WebHook-Allowed-Origin": "gw.example.com", "WebHook-Allowed-Rate": "600"}
        http_recorder.answer = lambda r: Answer(204, consent)
        _, url = sending(gateway, http_recorder.url)
        began = time.monotonic()
        for number in range(12):
            assert post(url, str(number))[0] == 202
        assert time.monotonic() - began > 1.0

    # WH-VAL-004, WH-VAL-005, WH-VRS-002, WH-RAT-003: both sides are ours, as processes.
    def test_a_gateway_delivers_to_a_gateway_that_consents_by_callback(
        self, gateway, receiving, http_recorder
    ):
        port = free_port()
        receiver, target = receiving(
            allowed_origins=["gw.example.com"],
            require_origin=True,
            token="t0k3n",
            callbacks=[f"http://{HOST}:{port}"],
        )
        callback = {"url": f"http://{HOST}:{port}/consent", "listen": f"{HOST}:{port}"}
        webhook = {"origin": "gw.example.com", "callback": callback, "ask_again": "PT0.2S"}
        sender, url = sending(gateway, f"{target}/", webhook=webhook)
        poll_until(lambda: post(url)[0] == 202, 10, "consent")
        (request,) = http_recorder.wait_for(lambda requests: requests)
        assert json.loads(request.body)["id"] == "s1"
        assert "consent given at" in receiver.log
        assert "key=" not in receiver.log + sender.log
