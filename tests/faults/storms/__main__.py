"""A storm: `python -m tests.faults.storms KIND PORT COUNT SEED [SECONDS]`.

Prints what came of it as JSON. SECONDS is how long a flood may take.
"""

import json
import random
import sys

from tests.faults.storms.floods import FLOODS
from tests.faults.storms.frames import FRAMES
from tests.faults.storms.senders import SENDERS


def main() -> None:
    kind, port, count, seed = sys.argv[1], *map(int, sys.argv[2:5])
    if kind in FLOODS:
        report = FLOODS[kind](port, count, float(sys.argv[5]))
    else:
        report = SENDERS[kind](port, FRAMES[kind](random.Random(seed), count))
    print(json.dumps(report))


main()
