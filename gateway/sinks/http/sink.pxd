from gateway.sinks.http.job cimport Chain, Job


cdef class HttpSink:
    cdef public object _config
    cdef public bint _batch
    cdef public object _target
    cdef public object _pool
    cdef public object _webhook
    cdef public list _on_resumed
    cdef public object _jobs
    cdef public Py_ssize_t _ready
    cdef public double _timeout
    cdef public bint _down
    cdef public bint _is_failing
    cdef public object _lines

    cpdef bytes _encode(self, Job job, Chain chain)
    cpdef answered(self, Job job, Chain chain, answer)
    cpdef _go_on(self, Job job, Chain chain)
