cimport cython


cdef class HeaderLayout:
    cdef readonly object headers
    cdef readonly object names
    cdef readonly list core
    cdef readonly list extensions
    cdef readonly Py_ssize_t key


cdef class Latest:
    cdef public HeaderLayout layout
    cdef public tuple names


@cython.locals(at_version=Py_ssize_t, at_id=Py_ssize_t, at_source=Py_ssize_t, at_type=Py_ssize_t, at_format=Py_ssize_t,
    at_schema=Py_ssize_t, at_subject=Py_ssize_t, at_time=Py_ssize_t, position=Py_ssize_t, plain=bint, printable=bint,
    texts=list, extensions=dict, id_=str, source=str, type_=str, subject=str, time=str, value=str)
cpdef event_of(HeaderLayout layout, list values, content_type, payload, bint percent, bint plain=*)
