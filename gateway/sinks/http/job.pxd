from gateway.sinks.http.connection cimport Request


cdef class Chain(Request):
    cdef public Job job
    cdef public object positions
    cdef public Py_ssize_t first
    cdef public Py_ssize_t last
    cdef public Py_ssize_t alone
    cdef public bint retried_token
    cdef public object consent

    cpdef put_back(self)
    cpdef renew(self, bytes data)
    cpdef on_answer(self, answer)


cdef class Job:
    cdef public object owner
    cdef public object events
    cdef public double timeout
    cdef public object ready
    cdef public list failures
    cdef public list accepted
    cdef public bint is_ended
    cdef public bint reports
    cdef public double deadline
    cdef public Py_ssize_t _open
    cdef public object _on_ended
    cdef public object _on_accepted
    cdef public object _timer

    cpdef divide(self, chains)
    cpdef end_chain(self)
    cpdef stop(self)
    cpdef cancel(self)
