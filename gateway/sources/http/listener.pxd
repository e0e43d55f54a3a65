from bindings.wire.http1_request cimport PlainPosts
from gateway.sources.http.answers cimport Clock


cdef class Listener:
    cdef public object config
    cdef public object intake
    cdef public Clock clock
    cdef public object credentials
    cdef public object handshake
    cdef public object _rate
    cdef public object _binding
    cdef public object _wrapper
    cdef public object path
    cdef public double ack_timeout
    cdef public bint retired
    cdef public bint require_origin
    cdef public tuple timeouts
    cdef public PlainPosts plain
    cdef public bint draining
    cdef public list _arrived
    cdef bint _comes_alone
    cdef double _handed_in_at
    cdef public set _connections
    cdef public set _refused
    cdef public dict _from_address
    cdef public object _loop
    cdef public object _timer
    cdef public double _interval
    cdef public list _unswept
    cdef public double _pause
    cdef public object _changed

    cpdef take(self, arrived)
    cpdef _submit(self, reads)
    cpdef decode(self, message)
    cpdef bint accepts(self, str authorization) except? -1
