"""A target is a sink with what its lanes have in common."""

from gateway.target import Target
from tests.helpers import ScriptedSink


async def test_the_circuit_of_a_sink_is_its_own_and_closed_at_first():
    one = Target(name="a", sink=ScriptedSink(), address="http://a/")
    other = Target(name="b", sink=ScriptedSink(), address="http://b/")
    assert one.circuit is one.circuit
    assert one.circuit is not other.circuit
    assert not one.circuit.is_open
