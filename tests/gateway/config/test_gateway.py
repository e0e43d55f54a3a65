import pytest
from pydantic import ValidationError

from gateway.config.gateway import DeliveryConfig, DrainConfig, GatewayConfig, RouteConfig


def test_defaults_are_those_of_the_documentation():
    config = GatewayConfig()
    assert str(config.admin.listen) == "127.0.0.1:8081"
    assert config.limits.max_event_bytes == 65536
    assert config.limits.inflight == 1000
    assert (config.drain.grace, config.drain.rate) == (20.0, None)
    delivery = config.delivery
    assert (delivery.ack, delivery.retry, delivery.backoff_policy) == ("sink", 10, "exponential")
    assert (delivery.backoff_delay, delivery.backoff_cap, delivery.jitter) == (0.2, 600.0, 0.0)
    assert (delivery.spool, delivery.dead_letters) == ("auto", "local")


def test_delivery_takes_knatives_names_from_a_file_and_ours_from_code():
    from_file = {"backoffPolicy": "linear", "backoffDelay": "PT1S", "deadLetterSink": "dead"}
    config = DeliveryConfig.model_validate(from_file, by_alias=True, by_name=False)
    assert config == DeliveryConfig(
        backoff_policy="linear", backoff_delay=1, dead_letter_sink="dead"
    )
    with pytest.raises(ValidationError, match="backoff_policy"):
        DeliveryConfig.model_validate({"backoff_policy": "linear"}, by_alias=True, by_name=False)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"ack": "stored", "spool": "off"}, "ack"),
        ({"spool": "auto", "dead_letters": "off"}, "dead_letters"),
        ({"ack": "stored", "dead_letters": "off"}, "dead_letters"),
    ],
)
def test_what_is_acknowledged_has_a_place_where_it_can_stay(values, key):
    found = DeliveryConfig(**values).contradiction()
    assert found is not None
    assert found[0] == key


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"ack": "stored"},
        {"spool": "off"},
        {"spool": "off", "dead_letters": "off"},
    ],
)
def test_values_of_a_delivery_that_go_together(values):
    assert DeliveryConfig(**values).contradiction() is None


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_of_a_backlog_lets_something_through(rate):
    assert DrainConfig(rate=0.5).rate == 0.5
    with pytest.raises(ValidationError):
        DrainConfig(rate=rate)


@pytest.mark.parametrize(
    "values", [{"retry": -1}, {"jitter": 1.5}, {"timeout": "PT0S"}, {"backoffDelay": "1 s"}]
)
def test_numbers_outside_their_range_are_refused(values):
    with pytest.raises(ValidationError):
        DeliveryConfig(**values)


def test_a_route_needs_a_sink_and_a_name_that_fits_a_label():
    assert RouteConfig(to=["a"]).from_ is None
    with pytest.raises(ValidationError):
        RouteConfig(to=[])
    with pytest.raises(ValidationError, match="expected a name"):
        RouteConfig(to=["a"], name="a/b")
