from gateway.dispatcher cimport Dispatcher


cdef class Lane:
    cdef public object _on_done
    cdef public Dispatcher _dispatcher
    cdef public object _undeliverable
    cdef public object _spooling
    cdef public list _quiet

    cpdef put(self, deliveries)
    cpdef delivered(self, deliveries)
    cpdef _note_quiet(self)
