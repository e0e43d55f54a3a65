from gateway.running_route cimport RunningRoute


cdef class SourceIntake:
    cdef public bint draining
    cdef public object _protocol
    cdef public object _letters
    cdef public object _source
    cdef public object _routes
    cdef public object _metrics
    cdef public object _observer
    cdef public object _throttle
    cdef public RunningRoute _only

    cpdef _stamp(self, deliveries, events=*)
    cpdef tuple _take(self, deliveries, Py_ssize_t position)


cpdef Py_ssize_t _end_of_plain(deliveries, Py_ssize_t start, Py_ssize_t stop)
