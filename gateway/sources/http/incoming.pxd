from bindings.wire.http1_request cimport PlainPosts


cdef class Incoming:
    cdef public PlainPosts _plain
    cdef public object _phase
    cdef public bint _replaying
    cdef public object _message
    cdef public bytes _target
    cdef public list _headers
    cdef public dict _fields
    cdef public Py_ssize_t _head_bytes
    cdef public Py_ssize_t _read_bytes
    cdef public bytes _repeated
    cdef public list _body
    cdef public Py_ssize_t _body_bytes
    cdef public object _refusal
