"""CAN frames through the gateway's own process: from socketcand, and from Linux's vcan."""

import contextlib
import socket
import subprocess
import threading
from pathlib import Path

import can
import pytest

from gateway.sources.can import CanSource, CanSourceConfig
from tests.e2e.readers.sdk import Record, read_with_python
from tests.helpers import RecordingIntake

DBC = Path(__file__).parents[2] / "docs/examples/can/engine.dbc"


@contextlib.contextmanager
def socketcand(*frames):
    """Serve one client as socketcand does (its doc/protocol.md), and send it some frames."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"< hi >")
            for expected in (b"< open can0 >", b"< rawmode >"):
                assert connection.recv(256) == expected
                connection.sendall(b"< ok >")
            connection.sendall(b"".join(frames))
            done.wait(60)

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield listener.getsockname()[1]
    finally:
        done.set()
        server.join()
        listener.close()


def test_frames_of_a_foreign_daemon_reach_knative(gateway, http_recorder):
    frames = (
        b"< frame 100 1700000000.123456 A00F5A0290010000 >",
        b"< frame 18DA00F1 1700000000.500000 0102 >",
    )
    with socketcand(*frames) as port:
        process = gateway({
            "sources": {
                "machine": {
                    "protocol": "can", "interface": "socketcand", "channel": "can0",
                    "dbc": [str(DBC)], "options": {"host": "127.0.0.1", "port": port},
                }
            },
            "sinks": {"out": {"protocol": "http", "url": http_recorder.url, "mode": "binary"}},
            "routes": [{"to": ["out"]}],
        })  # fmt: skip
        requests = http_recorder.wait_for(lambda seen: seen[:2] if len(seen) >= 2 else None)
        process.finish()
    engine, other = (
        read_with_python(Record("HTTP", request.headers, request.body)) for request in requests
    )
    assert engine.attributes == {
        "specversion": "1.0",
        "id": "1700000000.123456-100",
        "source": "/can/can0",
        "type": "can.message.v1",
        "subject": "EngineData",
        "time": "2023-11-14T22:13:20.123456+00:00",
        "datacontenttype": "application/json",
        "canid": "100",
    }
    assert engine.data["EngineState"] == "running"
    assert other.attributes["canid"] == "18DA00F1"
    assert other.data == b"\1\2"


@pytest.fixture
def vcan():
    """A virtual CAN device of the kernel."""
    name = "vcan-cegw"
    if not hasattr(socket, "AF_CAN"):
        pytest.skip("this Python has no AF_CAN")
    try:
        socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW).close()
    except OSError as error:
        pytest.skip(f"no CAN sockets in this kernel: {error.strerror}")
    for command in (f"ip link add dev {name} type vcan", f"ip link set {name} mtu 72 up"):
        done = subprocess.run(command.split(), capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"no vcan in this kernel, or no right to add one: {done.stderr.decode()}")
    yield name
    subprocess.run(["ip", "link", "del", "dev", name], check=True)


async def test_frames_of_a_kernel_s_bus_arrive(vcan):
    intake = RecordingIntake()
    source = CanSource(CanSourceConfig(name="machine", protocol="can", channel=vcan, fd=True))
    await source.open(intake)
    with can.Bus(interface="socketcan", channel=vcan, fd=True, ignore_config=True) as node:
        node.send(can.Message(arbitration_id=0x123, is_extended_id=False, data=b"\1\2"))
        node.send(can.Message(arbitration_id=0x123, is_fd=True, data=bytes(64)))
        await intake.wait_for(lambda seen: len(seen.events) == 2)
    await source.drain()
    await source.close()
    assert [(event.subject, event.data) for event in intake.events] == [
        ("123", b"\1\2"),
        ("00000123", bytes(64)),
    ]
    assert intake.events[1].extensions["canfdflags"] == "0"
    assert len({event.id for event in intake.events}) == 2
