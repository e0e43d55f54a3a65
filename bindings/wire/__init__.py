"""Wire codecs on the hot path: packets and datagrams to values and back, no I/O."""
