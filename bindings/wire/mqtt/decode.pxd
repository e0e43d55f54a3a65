# C types for Cython, of what every PUBLISH goes through (docs/adr/0012-compiled-modules.md).
cimport cython

from bindings.wire.mqtt.property cimport read_properties


cpdef Py_ssize_t _packet_id(bytes buffer, Py_ssize_t pos, Py_ssize_t end) except -1


@cython.locals(qos=Py_ssize_t, packet_id=Py_ssize_t, start=Py_ssize_t, topic=str)
cpdef decode_publish(Py_ssize_t first, bytes buffer, Py_ssize_t pos, Py_ssize_t end, version)
