"""The `mqtt-endpoint` source: devices connect straight to the gateway, MQTT 5 or 3.1.1.

It takes PUBLISH at every QoS and sends none: SUBSCRIBE is refused. RETAIN is taken and has no
effect, as nobody can subscribe; many a device sets it, and refusing it means to cut it off.
A will becomes an event when its connection breaks; its delay counts as 0. Sessions live as long as
the process, so that a repeated QoS 1 or 2 message is recognised after a reconnection.
"""

from gateway.sources.mqtt_endpoint.config import MqttEndpointConfig
from gateway.sources.mqtt_endpoint.source import MqttEndpointSource

__all__ = ["MqttEndpointConfig", "MqttEndpointSource"]
