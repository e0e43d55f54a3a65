"""Node-RED, on Node.js: https://nodered.org."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.contender import TOPIC, Addresses, Course, Form
from tests.benchmarks.peers.process import PeerProcess, listens
from tests.e2e.servers import CACHE, free_port

_HERE: Final = Path(__file__).parent
_PACKAGES: Final[dict[str, str]] = json.loads((_HERE / "package.json").read_text())["dependencies"]
VERSION: Final = _PACKAGES["node-red"]
_MODULES: Final = CACHE / f"node-red-{VERSION}" / "node_modules"
_SOCKETS: Final = 64


class NodeRed:
    """Nodes of Node-RED itself; for Kafka a function node with KafkaJS, the client for Node.js.

    Args:
        early: the one of the courses on which it acknowledges before the sink has the event.
    """

    form: Form = "payload"

    def __init__(self, *, early: bool = False) -> None:
        self.name = "node-red-early" if early else "node-red"
        self._early = early

    def missing(self) -> str | None:
        if not (_MODULES / "node-red").exists():
            return ".ci/peers could not install node-red from npm"
        return None if shutil.which("node") else "node is missing: apt-get install nodejs"

    def version(self) -> str:
        return VERSION

    def supports(self, course: Course) -> bool:
        return (
            course.source in ("mqtt", "http")
            and self._early == (course.source == "mqtt" and course.qos > 0)
            and course.sink in ("kafka", "http")
            and not course.stored
        )

    def settings(self, course: Course) -> str:
        source = {
            "mqtt": f'"mqtt in", MQTT 5, QoS {course.qos}, session kept; it acknowledges on '
            "receipt, before the sink has the event, and can't do otherwise",
            "http": '"http in" without body parsing; 202 after the sink has answered',
        }[course.source]
        sink = {
            "kafka": f"function node with KafkaJS {_PACKAGES['kafkajs']}: acks=all, not "
            "idempotent, a request under way, up to 1,000 records in the next",
            "http": f'"http request" with keep-alive, up to {_SOCKETS} connections, a POST per '
            "event; it does not try again",
        }[course.sink]
        return f"{source}; {sink}. No CloudEvents: the payload as it is."

    def start(self, course: Course, addresses: Addresses, folder: Path) -> PeerProcess:
        flows = folder / "flows.json"
        flows.write_text(json.dumps(flows_of(course, addresses)))
        port = addresses.source_port if course.source == "http" else free_port()
        signs = ["Started flows"]
        signs += ["Connected to broker"] if course.source == "mqtt" else []
        signs += ["the producer is connected"] if course.sink == "kafka" else []
        return PeerProcess(
            [
                str(shutil.which("node")),
                str(_MODULES / "node-red" / "red.js"),
                "--settings",
                str(_HERE / "settings.js"),
                "--userDir",
                str(folder),
            ],
            folder,
            lambda printed: all(sign in printed for sign in signs) and listens(port),
            {
                "NODE_PATH": str(_MODULES),
                "PEER_PORT": str(port),
                "PEER_FLOWS": str(flows),
                "PEER_BROKERS": addresses.bootstrap_servers,
                "PEER_TOPIC": addresses.kafka_topic,
            },
        )


def flows_of(course: Course, addresses: Addresses) -> list[dict[str, Any]]:
    """Return the flow: source, sink, and for HTTP the answer."""
    nodes: list[dict[str, Any]] = [{"id": "tab", "type": "tab", "label": course.name}]
    if course.source == "mqtt":
        nodes += [
            {
                "id": "broker",
                "type": "mqtt-broker",
                "broker": "127.0.0.1",
                "port": str(addresses.source_port),
                "clientid": "node-red",
                "autoConnect": True,
                "protocolVersion": "5",
                "keepalive": "60",
                "cleansession": False,
                "sessionExpiry": "3600",
            },
            {
                "id": "in",
                "type": "mqtt in",
                "topic": TOPIC,
                "qos": str(course.qos),
                "datatype": "buffer",
                "broker": "broker",
            },
        ]
    else:
        nodes += [
            {"id": "in", "type": "http in", "url": "/", "method": "post", "skipBodyParsing": True},
            {"id": "answer", "type": "http response", "statusCode": "", "wires": []},
        ]
    if course.sink == "kafka":
        nodes.append(
            {
                "id": "out",
                "type": "function",
                "func": 'context.get("take")(msg); return null;',
                "initialize": (_HERE / "produce_setup.js").read_text(),
                "outputs": 1,
                "libs": [],
            }
        )
    else:
        nodes.append(
            {
                "id": "out",
                "type": "http request",
                "method": "POST",
                "ret": "txt",
                "url": addresses.sink_url,
                "persist": True,
                "headers": [],
            }
        )
    for node in nodes[1:]:
        if node["type"] != "mqtt-broker":
            node.update(z="tab", x=100, y=100)
    wires = {"in": ["out"], "out": ["answer"] if course.source == "http" else []}
    for node in nodes:
        if node["id"] in wires:
            node["wires"] = [wires[node["id"]]]
    return nodes
