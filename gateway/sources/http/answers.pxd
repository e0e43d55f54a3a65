cdef class Clock:
    cdef object _second
    cdef tuple _date
    cdef bytes _accepted

    cpdef bytes accepted(self)
    cpdef _refresh(self)
