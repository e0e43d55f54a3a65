"""A gateway's process spends no time on looking for garbage that events do not make."""

import json
import subprocess
import sys

SCRIPT = """
import gc, json
from gateway.collector import settle_collector

class Cycle:
    def __init__(self):
        self.me = self

before = gc.get_freeze_count()
settle_collector()
looks = gc.get_stats()[0]["collections"]
kept = [[number] for number in range(10_000)]
seldom = gc.get_stats()[0]["collections"] - looks
for _ in range(60_000):
    Cycle()
left = sum(isinstance(each, Cycle) for each in gc.get_objects())
print(json.dumps([before, gc.get_freeze_count(), seldom, left]))
"""


def test_a_window_of_events_is_not_looked_at_and_cycles_are_found():
    # A process of its own: the settings are the process'.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    before, frozen, seldom, cycles = json.loads(done.stdout)
    assert (before, frozen > 1000) == (0, True)
    assert seldom == 0
    assert cycles <= 20_001
