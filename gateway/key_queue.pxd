cdef class KeyQueue:
    cdef public object _ready
    cdef public set _busy
    cdef public dict _behind
    cdef public list _parked
    cdef public Py_ssize_t _serial

    cpdef put(self, deliveries)
    cpdef put_back(self, deliveries)
    cpdef tuple take(self, Py_ssize_t limit)
    cpdef list _free(self, deliveries, order, set keys)
    cpdef _wait_behind(self, key, delivery)
    cpdef end_turn(self, keys)
