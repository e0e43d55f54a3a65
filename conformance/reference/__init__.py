"""Messages written and read without the codec under test, by the text of the documents alone.

    carrier      where an event can be: a binding and a mode, and the way in and out of each
    headers      binary mode: attributes in headers, data in the payload
    json_event   the JSON format
    cbor_event   the CBOR format
    compare      whether two events say the same

Nothing here checks an event: wrong ones have to be written too.
"""
