cimport cython

from gateway.sources.http.answers cimport Clock


cdef class AnswerQueue:
    cdef public Clock clock
    cdef public object transport
    cdef public object pending
    cdef public bint held
    cdef public bint draining
    cdef object _owner
    cdef bint _planned
    cdef object _loop

    cpdef open(self, deadline)
    cpdef answered(self, exchange)
    cpdef flush(self)
