"""Protocol bindings for CloudEvents 1.0.2, without I/O: bytes and headers to events and back.

Nothing here opens a socket, reads a clock or writes a log. `event` holds the vocabulary, `binding`
the one header-mapping algorithm, and each protocol file states only how its protocol differs.
`wire` holds the packet codecs of protocols whose libraries are too slow for the hot path.

References in docstrings are to the CloudEvents specification 1.0.2 (tag ce@v1.0.2), or to its main
branch where they say "main".
"""
