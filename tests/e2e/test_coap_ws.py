"""CoAP over WebSockets and TCP through the whole gateway, with aiocoap's command line and curl."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.servers import HOST, Answer, Gateway, HttpRecorder
from tests.e2e.servers.process import free_port, program
from tests.helpers import make_certificates

CONNECTIONS = {
    "coap+ws": "listen_ws",
    "coaps+ws": "listen_wss",
    "coap+tcp": "listen_tcp",
    "coaps+tcp": "listen_tls",
}
ANY = {"source_policy": "any"}
UPGRADE = (
    "-H", "Upgrade: websocket", "-H", "Connection: Upgrade", "-H", "Sec-WebSocket-Version: 13",
    "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-H", "Sec-WebSocket-Protocol: coap",
)  # fmt: skip


class Bench:
    """A gateway that listens for every kind of connection, and its sink."""

    def __init__(self, folder, sink):
        self.sink = sink
        self.certificates = make_certificates(folder)
        self.ports = {scheme: free_port() for scheme in CONNECTIONS}
        source = {
            "protocol": "coap",
            "listen": None,
            "tls": {
                "cert": str(self.certificates.server_cert),
                "key": str(self.certificates.server_key),
            },
            "routes": {
                "/ce": ANY,
                "/ce/s": {"mode": "structured", **ANY},
                "/t": {"type": "com.acme.temp.v1", "title": "Temperatures"},
            },
        }
        for scheme, name in CONNECTIONS.items():
            source[name] = f"{HOST}:{self.ports[scheme]}"
        delivery = {"retry": 0, "spool": "off", "dead_letters": "off"}
        config = {
            "sources": {"field": source},
            "sinks": {"out": {"protocol": "http", "url": sink.url, "mode": "structured"}},
            "routes": [{"to": ["out"], "delivery": delivery}],
        }
        self.gateway = Gateway(folder, config)

    def aiocoap(self, scheme, path, *arguments):
        """Run aiocoap-client and return what it printed."""
        command = Path(sys.executable).with_name("aiocoap-client")
        url = f"{scheme}://localhost:{self.ports[scheme]}{path}"
        trusted = {**os.environ, "SSL_CERT_FILE": str(self.certificates.ca)}
        done = subprocess.run(
            [command, *arguments, url], env=trusted, capture_output=True, timeout=30, check=False
        )
        return (done.stdout + done.stderr).decode()

    def curl(self, path, *arguments):
        """Return the status of an HTTP request to the WebSocket's port, and its body."""
        url = f"http://{HOST}:{self.ports['coap+ws']}{path}"
        command = [program("curl", "curl"), "-s", "-m", "5", "-w", "\n%{http_code}", *arguments]
        done = subprocess.run([*command, url], capture_output=True, timeout=10, check=False)
        body, _, status = done.stdout.decode("latin-1").rpartition("\n")
        return int(status), body

    def events(self):
        return [json.loads(request.body) for request in self.sink.requests]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with HttpRecorder() as sink:
        bench = Bench(tmp_path_factory.mktemp("coap-ws"), sink)
        bench.gateway.start()
        try:
            yield bench
            bench.gateway.finish()
        finally:
            bench.gateway.stop()


@pytest.fixture(autouse=True)
def _clean(bench):
    bench.sink.requests.clear()
    bench.sink.answer = lambda _: Answer()


@pytest.mark.parametrize("scheme", CONNECTIONS)
def test_an_event_of_aiocoap_reaches_the_sink_before_its_answer(bench, scheme):
    arguments = ("-m", "post", "--payload", '{"celsius": 21.5}')
    assert bench.aiocoap(scheme, "/ce?t=t.x&i=1&s=/s&c=application/json", *arguments) == ""
    (event,) = bench.events()
    assert {name: event[name] for name in ("specversion", "id", "source", "type", "data")} == {
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t.x", "data": {"celsius": 21.5}
    }  # fmt: skip


@pytest.mark.parametrize("scheme", CONNECTIONS)
def test_a_large_payload_arrives_whole(bench, scheme, tmp_path):
    (tmp_path / "big").write_bytes(bytes(n * 7 & 0x7F for n in range(65536)))
    assert bench.aiocoap(scheme, "/t", "-m", "post", "--payload", f"@{tmp_path / 'big'}") == ""
    (event,) = bench.events()
    assert len(event["data_base64"]) == 4 * ((65536 + 2) // 3)


@pytest.mark.parametrize("scheme", CONNECTIONS)
def test_what_the_sink_refuses_is_told(bench, scheme):
    bench.sink.answer = lambda _: Answer(400)
    assert "5.02 Bad Gateway" in bench.aiocoap(scheme, "/t", "-m", "post", "--payload", "1")
    bench.sink.answer = lambda _: Answer(503)
    assert "5.03 Service Unavailable" in bench.aiocoap(scheme, "/t", "-m", "post", "--payload", "1")


@pytest.mark.parametrize("scheme", CONNECTIONS)
def test_the_resources_are_listed(bench, scheme):
    listing = bench.aiocoap(scheme, "/.well-known/core?rt=ce.bin", "--no-pretty-print")
    links = listing.strip().split(",")
    assert [link.partition(";")[0] for link in links] == ["</ce>", "</t>"]
    assert links[1].endswith(';title="Temperatures"')
    path = "/.well-known/core"
    assert "4.06" in bench.aiocoap(scheme, path, "--accept", "application/cbor")


def test_curl_is_told_what_listens_there(bench):
    assert bench.curl("/") == (404, "CoAP is at /.well-known/coap.\n")
    assert bench.curl("/ce", "-d", "x" * 100_000)[0] == 404
    assert bench.curl("/.well-known/coap")[0] == 426
    assert bench.curl("/.well-known/coap", "-d", "{}")[0] == 400
    assert bench.curl("/.well-known/coap", *UPGRADE, "-H", "Origin: https://x.example")[0] == 403


def test_curl_opens_a_websocket_and_gets_the_csm(bench):
    status, body = bench.curl("/.well-known/coap", *UPGRADE, "-m", "1")
    assert status == 101
    assert body.encode("latin-1")[:9] == bytes.fromhex("820700e12301080020")
