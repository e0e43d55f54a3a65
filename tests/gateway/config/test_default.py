from gateway.config.default import Ports, default_config


def test_everything_listens_on_loopback_at_the_protocols_own_ports():
    config = default_config({})
    assert str(config.sources["coap"].listen) == "127.0.0.1:5683"
    assert str(config.sources["mqtt"].listen) == "127.0.0.1:1883"
    assert config.sources["nats"].url == "nats://127.0.0.1:4222"
    assert str(config.sources["http"].listen) == "127.0.0.1:8080"
    assert str(config.admin.listen) == "127.0.0.1:8081"
    assert config.embedded_nats


def test_every_coap_sender_may_say_any_source():
    routes = default_config({}).sources["coap"].routes
    assert {path: route.source_policy for path, route in routes.items()} == {
        "/ce": "any",
        "/ce/s": "any",
        "/ce/b": "any",
    }


def test_a_plain_payload_of_any_protocol_becomes_an_event():
    config = default_config({})
    for name in ("mqtt", "nats", "http"):
        assert config.sources[name].event is not None
    assert config.sources["coap"].routes["/ce"].type == "com.example.coap"


def test_events_go_to_k_sink_when_it_is_set_and_else_to_the_event_log():
    assert default_config({}).sinks["out"].protocol == "log"
    assert default_config({"K_SINK": ""}).sinks["out"].protocol == "log"
    sink = default_config({"K_SINK": "http://broker/x"}).sinks["out"]
    assert (sink.protocol, sink.url, sink.is_k_sink) == ("http", "http://broker/x", True)


def test_free_ports_are_chosen_by_the_system():
    ports = Ports.free()
    config = default_config({}, ports)
    assert str(config.sources["coap"].listen) == "127.0.0.1:0"
    assert ports.nats not in {0, 4222}
    assert config.sources["nats"].url == f"nats://127.0.0.1:{ports.nats}"
