"""What tests of the pipeline's parts have in common."""

import pytest

from gateway.delivery import ACCEPTED, DRAINING, Settlement
from gateway.dispatcher import Dispatcher
from gateway.metrics import SinkMetrics
from gateway.retry import RetryPolicy
from gateway.target import Target

FAST = RetryPolicy(retry=3, delay=0.001)


class Ends:
    """Settles at once, as a lane without spool and dead letters does."""

    def __init__(self):
        self.troubles = 0

    def delivered(self, deliveries):
        for delivery in deliveries:
            delivery.settle(ACCEPTED)

    def failed(self, delivery, failure):
        delivery.settle(Settlement(failure.outcome, failure.reason))

    def given_up(self, deliveries):
        for delivery in deliveries:
            delivery.settle(DRAINING)

    def troubled(self):
        self.troubles += 1


@pytest.fixture
async def dispatchers():
    started = []

    def make(sink, policy=FAST, timeout=None, *, waits=False):
        dispatcher = Dispatcher(
            Target(name="sink", sink=sink, address="http://sink/"),
            policy,
            timeout=timeout,
            metrics=SinkMetrics(),
            ends=Ends(),
            waits=waits,
        )
        dispatcher.start()
        started.append(dispatcher)
        return dispatcher

    yield make
    for dispatcher in started:
        await dispatcher.stop()
        dispatcher.give_up()
        dispatcher._circuit.close()
