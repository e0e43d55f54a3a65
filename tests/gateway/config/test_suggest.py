from gateway.config.suggest import did_you_mean, nearest, one_of


def test_the_nearest_name_is_found():
    assert nearest("qoss", ["topic", "qos", "share"]) == "qos"


def test_case_and_separators_count_for_nothing():
    assert nearest("backoff_delay", ["backoffDelay", "backoffCap"]) == "backoffDelay"
    assert nearest("MQTT_Endpoint", ["mqtt", "mqtt-endpoint"]) == "mqtt-endpoint"


def test_nothing_is_suggested_for_a_word_that_is_like_none():
    assert nearest("zzz", ["topic", "qos"]) is None
    assert did_you_mean("zzz", ["topic"]) == ""
    assert did_you_mean("topics", ["topic"]) == "; did you mean 'topic'?"


def test_choices_are_listed_as_a_person_would():
    assert one_of(["a"]) == "'a'"
    assert one_of(["a", "b"]) == "'a' or 'b'"
    assert one_of(["a", "b", "c"]) == "'a', 'b' or 'c'"
    assert one_of([]) == ""
