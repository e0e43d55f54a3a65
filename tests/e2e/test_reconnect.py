"""A broker that goes and comes back: one log line for each change of state, and no event lost."""

import subprocess
import time

import pytest

from tests.e2e.servers import Mosquitto, NatsServer, poll_until, program

OUTAGE_SECONDS = 1.5  # the length of the outage, in which several attempts fail

CASES = {
    "mosquitto": (
        Mosquitto,
        lambda port: {
            "protocol": "mqtt",
            "url": f"mqtt://127.0.0.1:{port}",
            "client_id": "gw",
            "subscribe": [{"topic": "t/#", "qos": 1}],
            "event": {"type": "com.example.t", "source": "/{topic}"},
        },
    ),
    "nats": (
        NatsServer,
        lambda port: {
            "protocol": "nats",
            "url": f"nats://127.0.0.1:{port}",
            "subjects": ["t.>"],
            "event": {"type": "com.example.t", "source": "/t"},
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_change_of_state_is_one_log_line(name, start, gateway, http_recorder):
    kind, source = CASES[name]
    broker = start(kind)
    running = gateway(
        {
            "sources": {"in": source(broker.port)},
            "sinks": {"out": {"protocol": "http", "url": http_recorder.url}},
            "routes": [{"to": ["out"]}],
        }
    )

    def lines():
        words = (" lost ", "connected to", "no connection")
        log = running.log.splitlines()
        return [line for line in log if any(word in line for word in words)]

    broker.kill()
    poll_until(lambda: len(lines()) >= 2, 10, "the gateway says that the broker is lost")
    time.sleep(OUTAGE_SECONDS)
    broker.start()
    poll_until(lambda: "connected to" in lines()[-1], 20, "the gateway is connected again")
    kinds = [
        next(word for word in ("lost", "connected to", "no connection") if word in line)
        for line in lines()
    ]
    assert kinds == ["connected to", "lost", "connected to"], lines()
    if name == "mosquitto":
        publish = [
            program("mosquitto_pub", "mosquitto-clients"),
            "-p",
            str(broker.port),
            "-q",
            "1",
            "-t",
            "t/1",
        ]
        subprocess.run([*publish, "-m", "1"], check=True)
        http_recorder.wait_for(lambda requests: len(requests) == 1)
