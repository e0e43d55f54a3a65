"""The fault harness: the real process under load, faults at random, and a ledger that judges.

`sample` makes the events, `producers/` send them, `sink` takes them; all write what they do into
the `ledger`, of which `checker` keeps the account. `bench` puts one gateway between them. A module
of `rows/` is one row of the fault plan; `python -m tests.faults` runs them.
"""
