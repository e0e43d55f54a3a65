cdef class Request:
    cdef public bytes data
    cdef public double timeout
    cdef public double deadline
    cdef public bint repeated
    cdef public object _on_answer

    cpdef on_answer(self, answer)
    cpdef begin(self, double now)


cdef class Connection:
    cdef public object _pool
    cdef public object _loop
    cdef public object _transport
    cdef public object _parser
    cdef public Request _request
    cdef public bint _was_idle
    cdef public double _timeout
    cdef public double deadline
    cdef public bytes _received
    cdef public bint _head_done
    cdef public bint _answered
    cdef public object _fields
    cdef public list _body
    cdef public long _body_bytes
    cdef public int _status_code
    cdef public bint _keep
    cdef public bint _surplus

    cpdef bint _is_reusable(self)
