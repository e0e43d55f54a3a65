"""The spool: events on disk until a sink has them (docs/reliability.md, ADR 10).

`spool.py` is the face. The event loop's thread appends to the queue of `writer.py`, reads
(`reader.py`) and marks done; the writer's thread commits (`tail.py`), keeps the cursor and trims
(`checkpoint.py`). `log.py` is what both know, `room.py` says when it is enough. The files are
described in `files.py`, `record.py` and `cursor.py`; `recovery.py` reads them at the start, and
`inspection.py` looks at them for `ce-gateway spool show`.
"""

from gateway.spool.disk import REAL_DISK, Disk
from gateway.spool.room import StoreError
from gateway.spool.spool import SEGMENT_BYTES, Found, Spool

__all__ = ["REAL_DISK", "SEGMENT_BYTES", "Disk", "Found", "Spool", "StoreError"]
