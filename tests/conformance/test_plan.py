from conformance.check import Check
from conformance.codec import BindingCodec, own_codec
from conformance.plan import Choice, codec_plan, generic_checks, own_plan, target_plan


def test_everything_of_a_profile_runs_once():
    checks = [check for part in own_plan(Choice(profile="main")) for check in part.checks]
    names = [check.id for check in checks]
    assert len(set(names)) == len(names)
    assert {check.needs for check in checks} >= {"codec", "target"}
    assert all("main" in check.profiles for check in checks)


def test_there_are_as_many_cases_as_promised():
    assert sum(len(part.checks) for part in own_plan(Choice())) >= 1500


def test_a_choice_narrows_by_binding_family_level_and_id():
    def ids(**choice) -> list[Check]:
        return [check for part in own_plan(Choice(**choice)) for check in part.checks]

    assert {check.binding for check in ids(bindings=["kafka"])} == {"kafka"}
    assert {check.family for check in ids(families=["vectors"])} == {"vectors"}
    assert {check.level for check in ids(levels=["SHOULD"])} == {"SHOULD"}
    assert [check.id for check in ids(only=["kafka-binary-"], families=["vectors"])] == [
        "kafka-binary-integer"
    ]
    of_a_rule = ids(only=["COAP-MSG-006"])
    assert of_a_rule
    assert all("COAP-MSG-006" in check.requirements for check in of_a_rule)


def test_each_profile_has_its_own_verdicts():
    sizes = {
        profile: sum(len(part.checks) for part in own_plan(Choice(profile=profile)))
        for profile in ("1.0.2", "main", "lenient")
    }
    assert sizes["1.0.2"] < sizes["main"]  # NATS has no binary mode in the release


def test_a_foreign_codec_gets_the_checks_of_the_bindings_it_has():
    from bindings.kafka import KAFKA

    (part,) = codec_plan(BindingCodec("k", {"kafka": KAFKA}), Choice())
    assert {check.binding for check in part.checks} == {"kafka"}
    assert {check.needs for check in part.checks} == {"codec"}


async def test_a_codec_is_closed_when_its_part_ends():
    closed = []
    codec = own_codec()
    codec.close = lambda: closed.append(True)
    (part,) = codec_plan(codec, Choice(only=["kafka-binary"]))
    async with part.open() as subject:
        assert subject is codec
        assert not closed
    assert closed


def test_a_binding_that_no_vector_knows_gets_the_checks_of_any_binding():
    from bindings.kafka import KAFKA

    codec = BindingCodec("a stranger's", {"pigeon": KAFKA})
    (part,) = codec_plan(codec, Choice(), list(generic_checks(codec)))
    assert len(part.checks) > 50
    assert {check.binding for check in part.checks} == {"pigeon"}


def test_any_binding_of_ours_is_judged_as_a_stranger_s():
    checks = [check for part in own_plan(Choice(families=["generic"])) for check in part.checks]
    assert {check.binding for check in checks} == set(own_codec().bindings)


def test_how_a_foreign_gateway_delivers_is_judged_when_it_is_asked_for():
    def needs(*bindings):
        parts = target_plan(
            ["http://g", "coap://g"], "http://o", Choice(bindings=bindings), is_broker=False
        )
        return [{check.needs for check in part.checks} for part in parts]

    assert needs("delivery") == [{"delivering"}]
    assert needs("knative", "delivery") == [{"target"}, {"delivering"}]
    assert needs("http") == [{"target"}]
    assert needs() == [{"target"}, {"target"}]


def test_each_protocol_of_a_foreign_gateway_is_a_part_of_its_own():
    urls = ["coap://h", "coaps://h", "mqtt://h"]
    parts = target_plan(urls, "http://127.0.0.1:9999", Choice(), is_broker=False)
    assert [part.title for part in parts] == ["coap://h", "mqtt://h"]
    assert {check.binding for check in parts[1].checks} == {"mqtt"}
    assert not any(part.waits for part in parts)  # all are observed at one address


def test_own_parts_that_wait_run_beside_each_other():
    parts = {part.title: part.waits for part in own_plan(Choice())}
    assert parts["source http"]
    assert not parts["cloudevents-gateway"]
