cdef class RunningRoute:
    cdef public object route
    cdef public object _state
    cdef public object matches
    cdef public Py_ssize_t limit
    cdef public Py_ssize_t _low
    cdef public object metrics
    cdef public list _waiters
    cdef public object _on_done
    cdef public list lanes
    cdef public object _gate
    cdef public list all_lanes

    cpdef bint fits(self, Py_ssize_t count, Py_ssize_t queued=*)
    cpdef put(self, deliveries)
    cpdef release(self, Py_ssize_t count)
