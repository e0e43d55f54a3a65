"""The file as a whole. What is right is in three lines; what is wrong is compared word for word."""

from textwrap import dedent

import pytest

from gateway.config.loader import load, remarks
from gateway.config.problems import ConfigErrors

SOURCES = 'sources: {web: {protocol: http, listen: "127.0.0.1:0"}}\n'
SINKS = "sinks: {out: {protocol: log}}\n"
ROUTES = "routes: [{to: [out]}]\n"
RIGHT = SOURCES + SINKS + ROUTES


def wrong(text, **environ):
    """Return the lines that are printed for a wrong file."""
    with pytest.raises(ConfigErrors) as errors:
        load(dedent(text), environ)
    return str(errors.value).replace("<text>:", "").splitlines()


def test_a_small_file_is_enough():
    config = load(RIGHT, {})
    assert config.sources["web"].name == "web"
    assert config.sources["web"].protocol == "http"
    assert config.sinks["out"].name == "out"
    assert [(route.name, route.from_, route.to) for route in config.routes] == [
        ("route-1", None, ["out"])
    ]


def test_the_name_of_the_file_stands_before_each_problem(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(RIGHT + "limit: {}\n")
    with pytest.raises(ConfigErrors) as errors:
        load(path, {})
    assert str(errors.value) == (
        f"{path}:4:1: limit: unknown key 'limit', expected 'sources', 'sinks', 'routes', "
        "'delivery', 'admin', 'state', 'limits', 'drain' or 'workers'; did you mean 'limits'?"
    )


def test_a_file_that_is_not_there_is_a_wrong_configuration(tmp_path):
    with pytest.raises(ConfigErrors) as errors:
        load(tmp_path / "none.yaml", {})
    assert str(errors.value) == f"{tmp_path}/none.yaml: can't be read: No such file or directory"


def test_a_file_that_is_no_text_says_where(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"a: 1\nb: \xe4\n")
    with pytest.raises(ConfigErrors) as errors:
        load(path, {})
    assert str(errors.value) == f"{path}:2:4: no YAML: it is not UTF-8"


def test_a_byte_order_mark_is_no_problem(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + RIGHT.encode())
    assert load(path, {}).routes


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "5\n"])
def test_a_file_without_a_table_is_refused(text):
    (line,) = wrong(text)
    assert line.endswith("expected a table with the keys 'sources', 'sinks' and 'routes'")


def test_every_part_is_required():
    assert wrong("sinks: {}\nroutes:\n") == [
        "1:1: the required key 'sources' is missing",
        "1:1: sinks: expected at least one",
        "2:1: routes: expected at least one",
    ]


def test_an_unknown_protocol_gets_the_nearest_right_name():
    assert wrong("sources: {web: {protocol: htpp}}\n" + SINKS + ROUTES) == [
        (
            "1:27: sources.web.protocol: unknown protocol 'htpp', expected 'can', 'coap', 'http', "
            "'mqtt', 'mqtt-endpoint' or 'nats'; did you mean 'http'?"
        )
    ]


def test_a_missing_protocol_is_reported_at_the_name():
    assert wrong(SOURCES + "sinks:\n  out: {}\n" + ROUTES) == [
        (
            "3:3: sinks.out: the required key 'protocol' is missing, "
            "expected 'http', 'kafka', 'log' or 'nats'"
        )
    ]


def test_an_unknown_key_of_an_adapter_gets_its_place_and_the_nearest_right_name():
    text = """\
    sources:
      web:
        protocol: http
        lisen: 127.0.0.1:0
    sinks:
      out: {protocol: log, capasity: 5}
    routes:
      - to: [out]
    """
    lines = wrong(text)
    assert lines[0].startswith("4:5: sources.web.lisen: unknown key 'lisen', expected 'protocol', ")
    assert lines[0].endswith("; did you mean 'listen'?")
    assert lines[1] == (
        "6:24: sinks.out.capasity: unknown key 'capasity', expected 'protocol', 'tls', 'username', "
        "'password', 'capacity' or 'max_bytes'; did you mean 'capacity'?"
    )


def test_a_key_inside_a_nested_table_is_found():
    text = """\
    sources:
      web:
        protocol: http
        tls: {crt: a.pem}
        event:
          type: a
          sorce: /b
    sinks: {out: {protocol: log}}
    routes: [{to: [out]}]
    """
    assert wrong(text) == [
        (
            "4:11: sources.web.tls.crt: unknown key 'crt', "
            "expected 'cert', 'key', 'ca' or 'verify'; did you mean 'cert'?"
        ),
        "5:5: sources.web.event: the required key 'source' is missing",
        (
            "7:7: sources.web.event.sorce: unknown key 'sorce', expected 'type', 'source', "
            "'subject', 'datacontenttype', 'dataschema' or 'extensions'; did you mean 'source'?"
        ),
    ]


def test_values_of_a_wrong_kind_say_what_was_expected():
    text = """\
    sources:
      web: {protocol: http, listen: here, max_connections: many, tls: 5, username: 7}
    sinks:
      out: {protocol: log, capacity: 0, max_bytes: 5 pounds}
    routes: {to: [out]}
    """
    assert wrong(text) == [
        (
            "2:33: sources.web.listen: expected host:port, such as 0.0.0.0:5683 or [::]:5683, "
            "not 'here'"
        ),
        "2:56: sources.web.max_connections: expected an integer, not 'many'",
        "2:67: sources.web.tls: expected a table, not 5",
        "2:80: sources.web.username: expected text, not 7; put it in quotes",
        "4:34: sinks.out.capacity: expected at least 1, not 0",
        (
            "4:48: sinks.out.max_bytes: expected bytes, or a size such as 64KiB or 1GiB, "
            "not '5 pounds'"
        ),
        "5:9: routes: expected a list, not a table",
    ]


def test_words_of_a_small_set_get_the_nearest_right_one():
    text = RIGHT + "delivery: {backoffPolicy: exponentail, spool: auo, ack: sinked}\n"
    assert wrong(text) == [
        (
            "4:27: delivery.backoffPolicy: expected 'linear' or 'exponential', not 'exponentail'; "
            "did you mean 'exponential'?"
        ),
        "4:47: delivery.spool: expected 'auto' or 'off', not 'auo'; did you mean 'auto'?",
        "4:57: delivery.ack: expected 'sink' or 'stored', not 'sinked'; did you mean 'sink'?",
    ]


def test_promises_that_contradict_each_other_are_told_where_the_file_makes_them():
    text = (
        SOURCES
        + SINKS
        + """\
routes:
  - {to: [out], delivery: {dead_letters: off}}
  - {to: [out], delivery: {spool: off}}
delivery: {ack: stored}
"""
    )
    first, second = wrong(text)
    assert first.startswith("4:42: routes[0].delivery.dead_letters: what is in a spool has been ")
    assert second.startswith("5:35: routes[1].delivery.spool: stored needs a disk to store on")


def test_only_the_documented_spelling_of_a_key_is_right():
    (line,) = wrong(RIGHT + "delivery: {backoff_delay: 1}\n")
    assert line.startswith("4:12: delivery.backoff_delay: unknown key 'backoff_delay', expected ")
    assert line.endswith("; did you mean 'backoffDelay'?")


def test_what_the_loader_sets_may_not_stand_in_the_file():
    (first, second) = wrong(
        "sources: {web: {protocol: http, name: x}}\n" + SINKS + ROUTES + "embedded_nats: true\n"
    )
    assert first.startswith("1:33: sources.web.name: unknown key 'name', expected 'protocol', ")
    assert second.startswith("4:1: embedded_nats: unknown key 'embedded_nats'")


def test_routes_name_sources_and_sinks_that_exist():
    text = """\
    sources: {web: {protocol: http}, bus: {protocol: nats, subjects: [a]}}
    sinks: {out: {protocol: log}, store: {protocol: log}}
    routes:
      - {name: a, from: [wep], to: [out, stor]}
      - {name: a, from: [], to: []}
      - {from: web, to: [out]}
    """
    assert wrong(text) == [
        (
            "4:22: routes[0].from[0]: unknown source 'wep', expected 'web' or 'bus'; "
            "did you mean 'web'?"
        ),
        (
            "4:38: routes[0].to[1]: unknown sink 'stor', expected 'out' or 'store'; "
            "did you mean 'store'?"
        ),
        "5:12: routes[1].name: routes[0] has the name 'a' too",
        "5:21: routes[1].from: expected at least 1 of them",
        "5:29: routes[1].to: expected at least 1 of them",
        "6:12: routes[2].from: expected a list, not 'web'",
    ]


def test_a_name_that_is_no_text_is_reported_and_no_crash():
    assert wrong(SOURCES + SINKS + "routes: [{name: [a], to: [out]}]\n") == [
        "3:17: routes[0].name: expected text, not a list"
    ]


def test_a_given_name_that_a_route_without_one_would_get_is_taken():
    text = SOURCES + SINKS + "routes: [{to: [out]}, {name: route-1, to: [out]}]\n"
    assert [route.name for route in load(text, {}).routes] == ["route-2", "route-1"]


def test_a_filter_is_compiled_and_its_problem_has_its_place():
    text = """\
    sources: {web: {protocol: http}}
    sinks: {out: {protocol: log}}
    routes:
      - to: [out]
        filter:
          all:
            - exact: {type: a}
            - prefx: {type: b}
      - to: [out]
        filter: {sql: "type = "}
      - to: [out]
        filter: 5
    """
    first, second, third = wrong(text)
    assert first.startswith("8:11: routes[0].filter.all[1].prefx: ")
    assert "did you mean prefix?" in first
    assert second.startswith("10:14: routes[1].filter.sql: ")
    assert third == "12:13: routes[2].filter: expected a table, or expected a list, not 5"


def test_a_right_filter_stays_as_it_is_written():
    text = SOURCES + SINKS + "routes: [{to: [out], filter: {prefix: {type: com.acme.}}}]\n"
    assert load(text, {}).routes[0].filter == {"prefix": {"type": "com.acme."}}


def test_an_unset_variable_is_the_only_problem_of_its_value():
    text = SOURCES.replace("127.0.0.1:0", "${LISTEN}") + SINKS + ROUTES
    assert wrong(text) == ["1:41: sources.web.listen: the environment variable LISTEN is not set"]


def test_what_a_variable_holds_is_never_shown():
    text = """\
    sources:
      web: {protocol: http, listen: "${LISTEN}", password: 12345, token: [a]}
    sinks: {out: {protocol: log}}
    routes: [{to: [out]}]
    """
    lines = wrong(text, LISTEN="hunter2hunter2")
    assert lines == [
        (
            "2:33: sources.web.listen: expected host:port, such as 0.0.0.0:5683 or [::]:5683, "
            "not what ${LISTEN} stands for"
        ),
        "2:56: sources.web.password: expected text; put it in quotes",
        "2:70: sources.web.token: expected text, not a list",
    ]


def test_a_template_that_can_make_no_event_is_refused():
    text = """\
    sources:
      a: {protocol: http, event: {type: "{topik}", source: /a}}
      b: {protocol: http, event: {type: a, source: "/{path"}}
      c: {protocol: http, event: {type: a, source: /a, extensions: {Big: x}}}
    sinks: {out: {protocol: log}}
    routes: [{to: [out]}]
    """
    lines = wrong(text)
    assert [line.split(" ")[:2] for line in lines] == [
        ["2:30:", "sources.a.event:"],
        ["3:30:", "sources.b.event:"],
        ["4:30:", "sources.c.event:"],
    ]
    assert lines[0].endswith("; did you mean {topic}?")


def test_a_password_in_a_url_is_never_shown():
    text = 'sources: {a: {protocol: nats, url: "nats://u:hunter2@bus", subjects: [a]}}\n'
    (line,) = wrong(text + SINKS + ROUTES)
    assert line.startswith("1:36: sources.a.url: ")
    assert "hunter2" not in line
    assert line.endswith(", not 'nats://...@bus'")


def test_names_that_fit_no_label_are_refused():
    text = 'sources: {"a b": {protocol: http}}\n' + SINKS + ROUTES
    assert wrong(text) == [
        "1:11: sources.a b: expected a name of letters, digits, '.', '_' and '-', at most 63"
    ]


def test_the_limits_and_delivery_of_the_file_hold_where_nothing_else_is_said():
    text = """\
    sources:
      a: {protocol: http, limits: {max_event_bytes: 1MiB}}
      b: {protocol: http, listen: ":0"}
    sinks: {out: {protocol: log}}
    routes:
      - {to: [out], delivery: {retry: 3}}
      - {to: [out]}
    limits: {max_event_bytes: 128KiB, inflight: 50}
    delivery: {retry: 5, backoffDelay: PT1S}
    """
    config = load(dedent(text), {})
    assert config.sources["a"].limits.max_event_bytes == 2**20
    assert config.sources["a"].limits.inflight == 50
    assert config.sources["b"].limits.max_event_bytes == 128 * 1024
    first, second = (route.delivery for route in config.routes)
    assert (first.retry, first.backoff_delay) == (3, 1.0)
    assert (second.retry, second.backoff_delay) == (5, 1.0)


def test_a_dead_letter_sink_is_a_sink_or_a_url():
    text = RIGHT.replace("to: [out]", "to: [out], delivery: {deadLetterSink: outt}")
    assert wrong(text) == [
        (
            "3:49: routes[0].delivery.deadLetterSink: unknown sink 'outt', expected 'out' "
            "or an http(s) URL; did you mean 'out'?"
        )
    ]
    named = RIGHT + "delivery: {deadLetterSink: out}\n"
    assert load(named, {}).routes[0].delivery.dead_letter_sink == "out"


def test_a_dead_letter_url_is_a_sink_by_that_url():
    url = "http://dead.example/letters"
    config = load(RIGHT + f"delivery: {{deadLetterSink: '{url}'}}\n", {})
    assert config.routes[0].delivery.dead_letter_sink == url
    assert (config.sinks[url].protocol, config.sinks[url].url) == ("http", url)


def test_k_sink_may_be_unset_and_is_remembered():
    text = SOURCES + "sinks: {out: {protocol: http, url: '${K_SINK}'}}\n" + ROUTES
    assert (load(text, {}).sinks["out"].url, load(text, {}).sinks["out"].is_k_sink) == ("", True)
    sink = load(text, {"K_SINK": "http://b/"}).sinks["out"]
    assert (sink.url, sink.is_k_sink) == ("http://b/", True)
    other = load(text.replace("K_SINK", "OTHER"), {"OTHER": "http://b/"}).sinks["out"]
    assert (other.url, other.is_k_sink) == ("http://b/", False)


def test_a_url_that_is_none_is_named_without_its_password():
    text = SOURCES + "sinks: {out: {protocol: http, url: '%s'}}\n" + ROUTES
    expected = "2:36: sinks.out.url: expected a URL as http(s)://host[:port]/path, not "
    assert wrong(text % "htp:/x") == [f"{expected}'htp:/x'"]
    assert wrong(text % "htp://u:pass@h/x") == [f"{expected}'htp://...@h/x'"]
    assert wrong(text % "${K_SINK}", K_SINK="htp:/x") == [f"{expected}what ${{K_SINK}} stands for"]


def test_an_address_that_two_listeners_name_is_told_beforehand():
    text = """\
        sources:
          web: {protocol: http, listen: "127.0.0.1:9000"}
          hook: {protocol: http, listen: "127.0.0.1:9000"}
          udp: {protocol: coap, listen: "127.0.0.1:9000"}
          any: {protocol: http, listen: "127.0.0.1:0"}
          other: {protocol: http, listen: "127.0.0.1:0"}
        sinks: {out: {protocol: log}}
        routes: [{to: [out]}]
        admin: {listen: "127.0.0.1:9001"}
        """
    assert wrong(text) == ["3:34: sources.hook.listen: sources.web.listen is 127.0.0.1:9000 too"]
    without_hook = text.replace("  hook:", "  # hook:")
    assert load(dedent(without_hook), {}).sources
    assert wrong(without_hook.replace("9001", "9000")) == [
        "9:17: admin.listen: sources.web.listen is 127.0.0.1:9000 too"
    ]


CONTEXT = """\
        sources:
          one:
            protocol: coap
            listen: 127.0.0.1:0
            oscore: [{label: a, sender_id: "01", recipient_id: "02", master_secret: %s}]
          two:
            protocol: coap
            listen: 127.0.0.1:0
            oscore:
              - {label: b, sender_id: "04", recipient_id: "05", master_secret: %s}
              - {label: c, sender_id: "%s", recipient_id: "%s", master_secret: %s}
        sinks: {out: {protocol: log}}
        routes: [{to: [out]}]
        """


@pytest.mark.parametrize("ids", [("01", "02"), ("02", "01"), ("01", "03"), ("03", "02")])
def test_a_key_that_counts_messages_belongs_to_one_source(ids):
    first, second = "'" + "0a" * 16 + "'", "'" + "0b" * 16 + "'"
    (problem,) = wrong(CONTEXT % (first, second, *ids, first))
    assert problem == (
        "11:9: sources.two.oscore[1]: shares a key with sources.one.oscore[0]; "
        "keys that count messages belong to one source"
    )
    assert load(dedent(CONTEXT % (first, second, *ids, "'" + "0c" * 16 + "'")), {}).sources


def test_every_address_takes_a_port_from_all_of_them():
    assert wrong(RIGHT.replace("127.0.0.1:0", "0.0.0.0:8081")) == [
        "1:41: sources.web.listen: admin.listen is 127.0.0.1:8081 too"
    ]
    assert load(RIGHT.replace("127.0.0.1:0", "127.0.0.2:8081"), {}).sources


def test_unused_sources_and_sinks_are_remarked():
    text = """\
    sources: {a: {protocol: http}, b: {protocol: coap}}
    sinks: {x: {protocol: log}, y: {protocol: log}, z: {protocol: log}}
    routes: [{from: [a], to: [x], delivery: {deadLetterSink: z}}]
    """
    assert remarks(load(dedent(text), {})) == [
        "sources.b: no route takes its events; they are acknowledged and dropped",
        "sinks.y: no route leads to it",
    ]
    assert remarks(load(RIGHT, {})) == []


def test_groups_and_adapters_have_to_be_tables():
    assert wrong("sources: [a]\nsinks: {out: log}\nroutes: [x]\n") == [
        "1:10: sources: expected a table of sources by name",
        "2:14: sinks.out: expected a table with a 'protocol'",
        "3:10: routes[0]: expected a table, not 'x'",
    ]


def test_a_dead_letter_sink_of_another_kind_is_refused_once():
    assert wrong(RIGHT + "delivery: {deadLetterSink: 5}\n") == [
        "4:28: delivery.deadLetterSink: expected text, not 5; put it in quotes"
    ]


def test_a_state_folder_too_small_for_its_spools_is_told_before_the_start():
    text = SOURCES + SINKS + ROUTES + "state: {max_bytes: 4MiB}\n"
    assert wrong(text) == [
        (
            "4:20: state.max_bytes: 4194304 is too little for 1 spool and dead letters, "
            "expected at least 8388608"
        )
    ]
    assert load(text.replace("4MiB", "8MiB"), {}).state.max_bytes == 2**23
    assert load(text + "delivery: {spool: off, dead_letters: off}\n", {}).state.max_bytes == 2**22
