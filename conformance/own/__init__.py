"""Our own sources and our own delivery as things to be judged, started inside this process.

A source registered by somebody else is judged in the same way: it needs its registered name and
the settings under which it listens on loopback (`source.SETTINGS`).
"""

import logging

# What ours logs about sinks that the checks let fail is no news to whoever runs them.
logging.getLogger("gateway").addHandler(logging.NullHandler())
