"""Other products on the same courses as the gateway; `.ci/peers` gets them.

Each runs with its strongest safe settings, and says in `settings` what it does less than the
gateway. None of them checks or writes CloudEvents: what arrives is the payload. Where one can't but
acknowledge before the sink has the event, it takes part as `NAME-early`, which is another thing.

Left out: Redpanda Connect and Bento (the Go module proxy refuses their modules), Vector (its crate
takes longer to build than a benchmark to run).
"""

from tests.benchmarks.contender import Contender
from tests.benchmarks.peers.mq_bridge import MqBridge
from tests.benchmarks.peers.node_red import NodeRed
from tests.benchmarks.peers.telegraf import Telegraf

PEERS: tuple[Contender, ...] = (
    MqBridge(),
    NodeRed(),
    Telegraf(),
    NodeRed(early=True),
    Telegraf(early=True),
)
