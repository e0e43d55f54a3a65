cimport cython


cdef class _HeadShape:
    cdef public object match
    cdef public Py_ssize_t length
    cdef object _path
    cdef Py_ssize_t _content_type
    cdef Py_ssize_t _authorization
    cdef list _attributes
    cdef tuple _names

    cpdef post(self, found, bytes body, Py_ssize_t end)


cdef class PlainPosts:
    cdef public dict _attributes
    cdef public dict _others
    cdef public dict _targets
    cdef public dict _shapes
    cdef public list _recent

    @cython.locals(end=Py_ssize_t, body=Py_ssize_t, head=str, shape=_HeadShape)
    cpdef read(self, bytes data, Py_ssize_t start, Py_ssize_t max_body)
