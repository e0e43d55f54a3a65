cimport cython

from bindings.wire.http1_request cimport PlainPosts
from gateway.sources.http.exchange cimport AnswerQueue
from gateway.sources.http.incoming cimport Incoming
from gateway.sources.http.listener cimport Listener


cdef class Connection(Incoming):
    cdef public Listener _listener
    cdef public Py_ssize_t _limit
    cdef public object _loop
    cdef public object _transport
    cdef public object _parser
    cdef public AnswerQueue _answers
    cdef public list _arrived
    cdef public object _deadline
    cdef public bint _reading
    cdef public bint _writable
    cdef public bint _continue_due
    cdef public bint _half_closed
    cdef public str peer

    @cython.locals(listener=Listener, plain=PlainPosts, position=Py_ssize_t, size=Py_ssize_t)
    cpdef Py_ssize_t _take_plain(self, bytes data) except? -1
    cpdef _take(self, exchange)
    cpdef _set_deadline(self)
    cpdef all_answered(self)
