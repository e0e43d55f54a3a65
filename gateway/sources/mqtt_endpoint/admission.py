"""Who may connect, and what CONNACK says."""

import hmac
import uuid
from collections.abc import Mapping
from typing import Any, Final

from bindings.wire.mqtt import (
    V5,
    V311,
    Connack,
    Connect,
    PacketType,
    Property,
    ReasonCode,
    Suback,
    Subscribe,
    Unsubscribe,
)
from bindings.wire.mqtt.property import PropertyValue
from gateway.sources.mqtt_endpoint.alias import TOPIC_ALIAS_MAXIMUM
from gateway.sources.mqtt_endpoint.config import MqttEndpointConfig

OVERHEAD_BYTES: Final = 65536
"""Room in a packet beside the payload: topic and attributes."""

# 3.1.1 section 3.2.2.3 has five ways to say no; what is not here closes the connection only.
_RETURN_CODES: Final[Mapping[ReasonCode, int]] = {
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: 1,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: 2,
    ReasonCode.SERVER_UNAVAILABLE: 3,
    ReasonCode.SERVER_BUSY: 3,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: 4,
    ReasonCode.NOT_AUTHORIZED: 5,
}


def refusal(connect: Connect, config: MqttEndpointConfig) -> ReasonCode | None:
    """Return why a client may not connect, or None if it may."""
    if Property.AUTHENTICATION_METHOD in connect.properties:
        return ReasonCode.BAD_AUTHENTICATION_METHOD
    if config.users and not _knows(connect, config):
        return (
            ReasonCode.NOT_AUTHORIZED
            if connect.username is None
            else ReasonCode.BAD_USER_NAME_OR_PASSWORD
        )
    if connect.version == V311 and not connect.client_id and not connect.clean_start:
        return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID  # 3.1.1 [MQTT-3.1.3-8]
    return None


def connack_of_refusal(code: ReasonCode, version: int) -> Connack | None:
    """Return the CONNACK that says no, or None where 3.1.1 has no word for it."""
    if version == V5:
        return Connack(code)
    return Connack(_RETURN_CODES[code]) if code in _RETURN_CODES else None


def client_id_of(connect: Connect) -> str:
    """Return the client identifier, made up where the client left that to us."""
    return connect.client_id or f"auto-{uuid.uuid4().hex}"


def expiry_of(connect: Connect, config: MqttEndpointConfig) -> float:
    """Return the seconds a session is kept after its connection."""
    if connect.version == V311:
        return 0.0 if connect.clean_start else config.session_expiry
    asked = connect.properties.get(Property.SESSION_EXPIRY_INTERVAL, 0)
    assert isinstance(asked, int)  # noqa: S101 - the property table says so
    return min(float(asked), config.session_expiry)


def connack_of(
    connect: Connect, config: MqttEndpointConfig, client_id: str, *, present: bool
) -> Connack:
    """Return the CONNACK that says yes, with what there is and what there is not."""
    if connect.version == V311:
        return Connack(0, present)
    properties: dict[Property, PropertyValue] = {
        Property.RECEIVE_MAXIMUM: config.receive_maximum,
        Property.MAXIMUM_PACKET_SIZE: config.limits.max_event_bytes + OVERHEAD_BYTES,
        Property.TOPIC_ALIAS_MAXIMUM: TOPIC_ALIAS_MAXIMUM,
        Property.WILDCARD_SUBSCRIPTION_AVAILABLE: 0,
        Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 0,
        Property.SHARED_SUBSCRIPTION_AVAILABLE: 0,
    }
    if not connect.client_id:
        properties[Property.ASSIGNED_CLIENT_IDENTIFIER] = client_id
    expiry = int(expiry_of(connect, config))
    if expiry != connect.properties.get(Property.SESSION_EXPIRY_INTERVAL, 0):
        properties[Property.SESSION_EXPIRY_INTERVAL] = expiry
    return Connack(0, present, properties)


def refused_subscription(packet: Subscribe | Unsubscribe, version: int) -> Suback:
    """Return the SUBACK or UNSUBACK that says no to each topic filter: nothing is sent here."""
    if isinstance(packet, Unsubscribe):
        codes = [ReasonCode.NO_SUBSCRIPTION_EXISTED] * len(packet.filters)
        return Suback(PacketType.UNSUBACK, packet.packet_id, codes)
    code = ReasonCode.NOT_AUTHORIZED if version == V5 else ReasonCode.UNSPECIFIED_ERROR
    return Suback(PacketType.SUBACK, packet.packet_id, [code] * len(packet.subscriptions))


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Return the common name of a verified client certificate, as `ssl` describes it."""
    if not certificate:
        return None
    for names in certificate.get("subject", ()):
        for key, value in names:
            if key == "commonName":
                return str(value)
    return None


def _knows(connect: Connect, config: MqttEndpointConfig) -> bool:
    secret = config.users.get(connect.username or "")
    # The comparison is made for unknown names too, so that its time does not tell them.
    expected = secret.get_secret_value().encode() if secret is not None else b"\0"
    same = hmac.compare_digest(connect.password or b"", expected)
    return same and secret is not None
