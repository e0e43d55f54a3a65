cdef class Batch:
    cdef public list deliveries
    cdef public set keys
    cdef public bint is_probe
    cdef public double started
    cdef public Py_ssize_t resumed
    cdef public object sending
    cdef public Py_ssize_t _size
    cdef public object _positions
    cdef public object _open

    cpdef remaining(self, failures)
