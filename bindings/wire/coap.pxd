# C types for Cython, of what every datagram goes through (docs/adr/0012-compiled-modules.md).
cimport cython


@cython.locals(first=Py_ssize_t, code=Py_ssize_t, mid=Py_ssize_t, end=Py_ssize_t, options=list, payload=bytes)
cpdef parse(bytes datagram)


@cython.locals(
    options=list, position=Py_ssize_t, size=Py_ssize_t, number=Py_ssize_t, payload=bytes,
    head=Py_ssize_t, length=Py_ssize_t, delta=Py_ssize_t, end=Py_ssize_t,
)
cpdef tuple parse_options(bytes octets, Py_ssize_t start=*)


cpdef tuple _extended(bytes octets, Py_ssize_t position, Py_ssize_t nibble)
