"""The `mqtt` source: a client of a broker, MQTT 5 or 3.1.1.

paho-mqtt holds the session (CONNECT, SUBSCRIBE, keep-alive, TLS). PUBLISH in and its answers out go
through `bindings.wire.mqtt`, since paho acknowledges QoS 2 before the event is safe and reads one
byte at a time; `client` is the seam.

A topic that is taken out of `subscribe` while the broker keeps the session stays subscribed there:
use another `client_id`, or remove the session at the broker.
"""

from gateway.sources.mqtt.config import MqttSourceConfig, SubscriptionConfig
from gateway.sources.mqtt.source import MqttSource

__all__ = ["MqttSource", "MqttSourceConfig", "SubscriptionConfig"]
