"""From the configuration to routes and adapters."""

import pytest

from gateway import assembly
from gateway.config.loader import load
from gateway.retry import RetryPolicy
from gateway.sinks.log import LogSink
from tests.helpers import make_event

TEXT = """
sources:
  web: {protocol: http, listen: "127.0.0.1:0"}
  other: {protocol: http, listen: "127.0.0.1:0"}
sinks:
  a: {protocol: log}
  far: {protocol: http, url: "http://sink.example/x"}
  topic: {protocol: kafka, bootstrap_servers: "k:9092", topic: events}
limits: {inflight: 7}
routes:
  - from: [web]
    filter: {prefix: {type: com.}}
    to: [a]
    delivery: {retry: 3, backoffPolicy: linear, backoffDelay: PT1S, backoffCap: PT9S,
               jitter: 0.5, timeout: PT4S, retryAfterMax: PT2S, deadLetterSink: far}
  - {name: rest, to: [a, topic, a]}
"""


@pytest.fixture
def config():
    return load(TEXT, {})


def test_a_route_has_what_its_table_says(config):
    first, second = assembly.make_routes(config)
    assert (first.name, first.sources, first.sinks) == ("route-1", {"web"}, ("a",))
    assert first.policy == RetryPolicy(
        retry=3, policy="linear", delay=1, cap=9, jitter=0.5, retry_after_max=2
    )
    assert (first.timeout, first.dead_letter_sink, first.inflight) == (4, "far", 7)
    assert first.matches is not None
    assert first.matches(make_event(type="com.example"))
    assert not first.matches(make_event(type="org.example"))
    assert (second.name, second.sources, second.matches) == ("rest", None, None)
    assert second.sinks == ("a", "topic")
    assert second.policy == RetryPolicy()


def test_adapters_are_made_by_protocol(config):
    sinks = assembly.make_sinks(config)
    assert set(sinks) == {"a", "far", "topic"}
    assert isinstance(sinks["a"], LogSink)
    assert set(assembly.make_sources(config)) == {"web", "other"}


def test_a_sinks_address_is_its_url_or_the_nearest_thing(config):
    found = {name: assembly.address_of(name, sink) for name, sink in config.sinks.items()}
    assert found == {
        "a": "a",
        "far": "http://sink.example/x",
        "topic": "kafka://k:9092/events",
    }


def test_what_may_be_a_credential_is_shown_to_nobody():
    config = load(
        """
        sinks:
          far: {protocol: http, url: "https://user:pa%40ss@sink.example/x", headers: {X-Key: pass}}
          topic: {protocol: kafka, bootstrap_servers: "k:9092", topic: events,
                  properties: {ssl.key.password: pass}, username: u, password: pass}
        sources:
          web: {protocol: http, listen: "127.0.0.1:0", token: pass}
        routes: [{to: [far, topic]}]
        """,
        {},
    )
    assert assembly.address_of("far", config.sinks["far"]) == "https://sink.example/x"
    shown = assembly.masked(config.model_dump(mode="json", by_alias=True))
    assert shown["sinks"]["far"]["url"] == "https://**********@sink.example/x"
    assert shown["sinks"]["far"]["headers"] == {"X-Key": "**********"}
    assert "pass" not in str(shown).replace("password", "")
    assert shown["routes"][0]["to"] == ["far", "topic"]
