"""Several processes behind one address: `ce-gateway run --workers N` (docs/workers.md, ADR 13).

`supervisor.py` is the parent: it has the administration, the dead letters and no event. It keeps
each worker (`process.py`) alive, and speaks with it over a socket pair (`channel.py`,
`messages.py`). `worker.py` is such a process: a `Service` without an administration of its own.
`place.py` says what one worker gets of the configuration, `listeners.py` which ports all share,
`count.py` how many there are; `figures.py` adds up their metrics, and `letters.py` is the dead
letters as a worker sees them.
"""
