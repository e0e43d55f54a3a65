# C types for Cython, of what every packet goes through (docs/adr/0012-compiled-modules.md).
cimport cython

from bindings.wire.mqtt.decode cimport decode_publish


@cython.locals(
    packets=list, size=Py_ssize_t, pos=Py_ssize_t, first=Py_ssize_t, length=Py_ssize_t,
    start=Py_ssize_t, end=Py_ssize_t,
)
cpdef tuple parse(bytes buffer, peer, version=*, Py_ssize_t limit=*)
