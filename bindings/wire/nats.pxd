# C types for Cython, of what every message goes through (docs/adr/0012-compiled-modules.md).
cimport cython


@cython.locals(position=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t, start=Py_ssize_t, split=Py_ssize_t,
    stop=Py_ssize_t, header_size=Py_ssize_t, body_size=Py_ssize_t, line=bytes, reply=bytes, subject=bytes, text=str)
cpdef tuple _cut(bytes buffer, list messages, list lines)


@cython.locals(words=list, header=bytes, subject=bytes, sid=bytes, reply=bytes, total=bytes)
cpdef tuple _arguments(bytes line)


@cython.locals(words=list, sequence=bytes, moment=bytes)
cpdef parse_ack_place(bytes reply)


@cython.locals(text=str, values=list, place=Py_ssize_t)
cpdef parse_headers(bytes block)
