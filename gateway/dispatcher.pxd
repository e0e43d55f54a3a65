from gateway.batch cimport Batch
from gateway.key_queue cimport KeyQueue


cdef class Dispatcher:
    cdef public object _target
    cdef public object _circuit
    cdef public object _policy
    cdef public object _metrics
    cdef public object _ends
    cdef public bint _waits
    cdef public object _senders
    cdef public KeyQueue _queue
    cdef public set _failing
    cdef public list _under_way
    cdef Py_ssize_t _events
    cdef Py_ssize_t _few
    cdef public set _straggling
    cdef public object _timer
    cdef public double _deadline
    cdef public object _health
    cdef public Py_ssize_t _resumed
    cdef public bint _leaves_stored
    cdef public bint _is_woken
    cdef public bint _is_busy
    cdef public bint _closed
    cdef public object _unsubscribe

    cpdef put(self, deliveries)
    cpdef _begin(self)
    cpdef Batch _take(self)
    cpdef _wake(self)
    cpdef _wake_anyway(self)
