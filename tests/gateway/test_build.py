from importlib.metadata import version

import bindings.wire.nats
from gateway.build import Build, build


def test_it_is_compiled_where_the_codecs_are_extension_modules():
    is_source = bindings.wire.nats.__file__.endswith(".py")
    assert build() == Build(version("cloudevents-gateway"), is_compiled=not is_source)


def test_people_read_both():
    assert str(Build("1.2", is_compiled=True)) == "1.2 (compiled)"
    assert str(Build("1.2", is_compiled=False)) == "1.2 (plain Python)"
