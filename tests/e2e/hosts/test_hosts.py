"""Three gateways on three hosts, with brokers, a sink and devices on others: nothing is lost.

What arrives twice is allowed, and printed (`pytest -rP`). Each device has an address of its own,
and knows nothing but the Service's.
"""

import contextlib
import signal
import threading

import pytest
import uvloop

from tests.e2e.conftest import skipping_what_is_missing
from tests.e2e.hosts.fleet import DEVICES, GATEWAYS, HOSTS, fleet
from tests.e2e.hosts.network import Network, NotAllowedError


@pytest.fixture
def network():
    with contextlib.ExitStack() as stack:
        try:
            with skipping_what_is_missing():
                made = stack.enter_context(Network(HOSTS, DEVICES))
        except NotAllowedError as error:
            pytest.skip(str(error))
        yield made


@pytest.fixture
def on_hosts(network, tmp_path):
    """Run a scenario with a fleet, in a thread that is on the devices' host until it ends."""

    def run(scenario):
        errors = []

        async def main():
            async with fleet(tmp_path, network) as made:
                await scenario(made)
                await made.finish()

        def in_thread():
            try:
                network.devices.enter()
                uvloop.run(main())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]

    return run


def others(name):
    return [one for one in GATEWAYS if one != name]


def test_a_rolling_restart_loses_nothing(on_hosts):
    async def scenario(fleet):
        for name, gateway in fleet.gateways.items():
            stay = fleet.homes(*others(name))
            fleet.sinks[name].freeze()  # so that something is under way at SIGTERM
            await fleet.holds(name)
            gateway.signal(signal.SIGTERM)
            await fleet.service.wait_for(*others(name))
            assert fleet.service.statuses[name][-1] == 503
            fleet.sinks[name].thaw()
            await fleet.more(by=others(name), keys=fleet.keys("coap", "endpoint", "http"))
            assert fleet.homes(*others(name)).items() >= stay.items()
            await fleet.until(lambda gateway=gateway: gateway.returncode is not None)
            assert gateway.returncode == 0, gateway.log[-4000:]
            await gateway.up()
            await fleet.service.wait_for(*GATEWAYS)
            await fleet.more(1, by=[name], keys=fleet.keys("mqtt"))

    on_hosts(scenario)


def test_a_gateway_that_does_not_reach_the_sink_or_the_brokers_for_a_while_loses_nothing(on_hosts):
    async def scenario(fleet):
        stay = fleet.homes(*others("b"))
        fleet.network.cut([("b", "sink")])
        await fleet.more(1, keys=stay)
        before = len(fleet.arrivals["b"])
        await fleet.more(8, by=others("b"), keys=stay)
        await fleet.fails("b")
        assert len(fleet.arrivals["b"]) == before
        fleet.network.cut([("a", "broker")])  # and b reaches the sink again
        await fleet.more(1, by=["b"], keys=set(fleet.keys("coap")) - set(stay))
        await fleet.more(8, by=others("a"), keys=fleet.keys("mqtt", "jetstream"))
        await fleet.more()
        fleet.network.cut([])
        await fleet.more(1, by=["a"], keys=fleet.keys("mqtt"))

    on_hosts(scenario)


def test_devices_of_a_gateway_that_is_cut_off_move_and_nothing_is_lost(on_hosts):
    async def scenario(fleet):
        stay = fleet.homes(*others("c"))
        fleet.sinks["c"].freeze()  # so that something is under way when its cable is out
        await fleet.holds("c")
        fleet.network.unplug("c")
        fleet.sinks["c"].thaw()
        await fleet.service.wait_for(*others("c"))
        await fleet.more(by=others("c"), keys=fleet.keys("coap", "endpoint", "http"))
        assert fleet.homes(*others("c")).items() >= stay.items()
        assert await fleet.inflight("c") > 0
        fleet.network.plug("c")
        await fleet.service.wait_for(*GATEWAYS)
        await fleet.more(1, by=["c"], keys=fleet.keys("mqtt"))

    on_hosts(scenario)


def test_a_drained_node_loses_nothing_and_a_repeated_coap_request_is_answered_by_another(on_hosts):
    async def scenario(fleet):
        request = fleet.coap_request(at="c")
        fleet.sinks["c"].freeze()
        with request.peer:
            request.send()
            assert await request.receive() == request.empty_ack  # which the device never sees
            fleet.service.cordoned.add("c")
            await fleet.service.wait_for("a", "b")
            request.send()
            answer = await request.receive()
        assert (answer[1], answer[2:4]) == (
            0x44,
            request.message_id,
        )  # 2.04, RFC 7252 section 12.1.2
        fleet.ledger.ack(request.key, 0)
        await fleet.until(lambda: fleet.taken[request.key])
        assert set(fleet.taken[request.key]) <= {"a", "b"}
        await fleet.more(by=["a", "b"], keys=fleet.keys("coap"))
        fleet.sinks["c"].thaw()
        await fleet.until(lambda: "c" in fleet.taken[request.key])  # the duplicate that is allowed
        fleet.gateways["c"].signal(signal.SIGTERM)
        await fleet.more(by=["a", "b"], keys=fleet.keys("coap", "endpoint", "http"))
        await fleet.until(lambda: fleet.gateways["c"].returncode is not None)
        assert fleet.gateways["c"].returncode == 0, fleet.gateways["c"].log[-4000:]
        # mosquitto 2.0 goes on to deal messages to the session of a gateway that is away, so the
        # pod of that name has to come back.
        await fleet.gateways["c"].up()

    on_hosts(scenario)
