from bindings.header_layout cimport HeaderLayout, Latest, event_of
