"""Bad HTTP requests, and bad JSON in good ones."""

from tests.e2e.bad_input.peers import event, http_post

ATTRIBUTES = {b"specversion": b"1.0", b"id": b"bad", b"source": b"/s", b"type": b"t.x"}
STRUCTURED = b"Content-Type: application/cloudevents+json"
BATCH = b"Content-Type: application/cloudevents-batch+json"


def binary(*fields: bytes, without: bytes = b"", body: bytes = b"{}") -> bytes:
    """Return a POST of the attributes in headers; `fields` come after them, or in their place."""
    replaced = {field.partition(b":")[0].lower() for field in fields}
    attributes = [
        b"ce-%b: %b" % pair
        for pair in ATTRIBUTES.items()
        if pair[0] != without and b"ce-%b" % pair[0] not in replaced
    ]
    return http_post(body, *attributes, *fields)


def structured(body: bytes) -> bytes:
    return http_post(body, STRUCTURED)


# What a request that is complete is answered, and why; the connection stays.
HTTP_REQUESTS: dict[str, tuple[bytes, int, str]] = {
    **{
        f"without {name.decode()}": (binary(without=name), 400, "missing_attribute")
        for name in ATTRIBUTES
    },
    "id twice": (binary(b"ce-id: a", b"Ce-Id: b"), 400, "duplicate_attribute"),
    "the same id twice": (binary(b"ce-id: a", b"ce-id: a"), 400, "duplicate_attribute"),
    "empty id": (binary(b"ce-id:"), 400, "empty_attribute"),
    "specversion 0.3": (binary(b"ce-specversion: 0.3"), 400, "specversion"),
    "attribute data": (binary(b"ce-data: x"), 400, "attribute_name"),
    "name with underscore": (binary(b"ce-my_name: x"), 400, "attribute_name"),
    "name with dash": (binary(b"ce-my-name: x"), 400, "attribute_name"),
    "no name": (binary(b"ce-: x"), 400, "attribute_name"),
    "content type twice": (
        binary(b"Content-Type: a/b", b"ce-datacontenttype: a/b"), 400, "duplicate_attribute",
    ),
    "no media type": (binary(b"Content-Type: ;;;"), 400, "attribute_type"),
    "source no URI": (binary(b"ce-source: a%20b"), 400, "attribute_type"),
    "relative schema": (binary(b"ce-dataschema: x"), 400, "attribute_type"),
    "time": (binary(b"ce-time: 2026-02-30T00:00:00Z"), 400, "attribute_type"),
    "escape %zz": (binary(b"ce-x: %zz"), 400, "header_encoding"),
    "escape at the end": (binary(b"ce-x: 100%"), 400, "header_encoding"),
    "half an escape": (binary(b"ce-x: a%2"), 400, "header_encoding"),
    "escaped bytes no UTF-8": (binary(b"ce-x: %C3%28"), 400, "header_encoding"),
    "overlong escape": (binary(b"ce-x: %C0%AF"), 400, "header_encoding"),
    "surrogate escape": (binary(b"ce-x: %ED%A0%80"), 400, "header_encoding"),
    "bytes no UTF-8": (binary(b"ce-x: \xff\xfe"), 400, "header_encoding"),
    "open quote": (binary(b'ce-x: "abc'), 400, "header_encoding"),
    "escaped NUL": (binary(b"ce-x: %00"), 400, "forbidden_character"),
    "escaped line break": (binary(b"ce-x: a%0D%0Ab"), 400, "forbidden_character"),
    "escaped ESC in id": (binary(b"ce-id: %1B[2J"), 400, "forbidden_character"),
    "noncharacter": (binary(b"ce-x: %EF%BF%BE"), 400, "forbidden_character"),
    "plain text": (http_post(b"x", b"Content-Type: text/plain"), 415, "not_an_event"),
    "nothing at all": (http_post(), 415, "not_an_event"),
    "avro": (http_post(b"x", b"Content-Type: application/cloudevents+avro"), 415,
             "unknown_encoding"),
    "avro batch": (http_post(b"x", b"Content-Type: application/cloudevents-batch+avro"), 415,
                   "unknown_encoding"),
    "no suffix": (http_post(b"{}", b"Content-Type: application/cloudevents"), 415,
                  "unknown_encoding"),
    "cloudeventsfoo": (http_post(b"{}", b"Content-Type: application/cloudeventsfoo"), 415,
                       "unknown_encoding"),
    "gzip": (http_post(b"x", STRUCTURED, b"Content-Encoding: gzip"), 415, "unknown_encoding"),
    "another path": (http_post(b"x", path=b"/other"), 404, "not_found"),
    "climbing path": (http_post(b"x", path=b"/../../etc/passwd"), 404, "not_found"),
    "GET": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
    "PUT": (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 405, "method_not_allowed"),
    "content type field twice": (
        http_post(b"{}", STRUCTURED, b"Content-Type: text/plain"), 400, "malformed",
    ),
    "no Host": (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400, "malformed"),
    "Host no host": (
        http_post(b"x").replace(b"Host: x", b"Host: \xff/@"), 400, "malformed",
    ),
    "Host twice": (http_post(b"x", b"Host: y"), 400, "malformed"),
}  # fmt: skip

DEEP = 30_000
# A payload of application/cloudevents+json, and the reason for 400.
JSON_BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "json"),
    "no JSON": (b"hello", "json"),
    "cut off": (event("bad")[:-1], "json"),
    "more behind it": (event("bad") + b"x", "json"),
    "array": (b"[" + event("bad") + b"]", "json"),
    "null": (b"null", "json"),
    "string": (b'"x"', "json"),
    "NaN": (event("bad", b',"data":NaN'), "json"),
    "Infinity": (event("bad", b',"x":-Infinity'), "json"),
    "trailing comma": (event("bad", b","), "json"),
    "comment": (event("bad", b"/**/"), "json"),
    "single quotes": (b"{'specversion':'1.0'}", "json"),
    "leading zero": (event("bad", b',"x":01'), "json"),
    "byte order mark": (b"\xef\xbb\xbf" + event("bad"), "json"),
    "UTF-16": (event("bad").decode().encode("utf-16"), "json"),
    "no UTF-8": (event("bad", b',"x":"\xff"'), "json"),
    "encoded surrogate": (event("bad", b',"x":"\xed\xa0\x80"'), "json"),
    "overlong": (event("bad", b',"data":"\xc0\x80"'), "json"),
    "raw control character": (event("bad", b',"x":"\x01"'), "json"),
    "unknown escape": (event("bad", b',"x":"\\q"'), "json"),
    "lone surrogate in a value": (event("bad", b',"x":"\\ud800"'), "json"),
    "lone surrogate in id": (event("\\ud800"), "json"),
    "lone surrogate in a name": (event("bad", b',"\\udc00":"x"'), "json"),
    "half a surrogate pair": (event("bad", b',"x":"\\ud83dx"'), "json"),
    "lone surrogate in text": (
        event("bad", b',"datacontenttype":"text/plain","data":"\\ud800"'), "json",
    ),
    "deep data": (event("bad", b',"data":' + b"[" * DEEP + b"]" * DEEP), "json"),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "json"),
    "deep and open": (b"[" * 60_000, "json"),
    "deep attribute": (event("bad", b',"x":' + b"[" * DEEP + b"]" * DEEP), "json"),
    "member twice": (event("bad", b',"id":"other"'), "duplicate_attribute"),
    "member twice, escaped": (event("bad", b',"i\\u0064":"other"'), "duplicate_attribute"),
    "data twice": (event("bad", b',"data":1,"data":2'), "duplicate_attribute"),
    "data and data_base64": (event("bad", b',"data":1,"data_base64":"AA=="'), "data_twice"),
    "no Base64": (event("bad", b',"data_base64":"A"'), "base64"),
    "spare bits": (event("bad", b',"data_base64":"AB=="'), "base64"),
    "Base64 a number": (event("bad", b',"data_base64":1'), "base64"),
    "float attribute": (event("bad", b',"x":1.5'), "attribute_type"),
    "big integer": (event("bad", b',"x":2147483648'), "attribute_type"),
    "huge integer": (event("bad", b',"x":' + b"1" * 5000), "attribute_type"),
    "exponent": (event("bad", b',"x":1e999999999'), "attribute_type"),
    "object attribute": (event("bad", b',"x":{}'), "attribute_type"),
    "number for id": (b'{"specversion":"1.0","id":1,"source":"/s","type":"t"}', "attribute_type"),
    "null for id": (b'{"specversion":"1.0","id":null,"source":"/s","type":"t"}',
                    "missing_attribute"),
    "empty object": (b"{}", "missing_attribute"),
    "empty name": (event("bad", b',"":"x"'), "attribute_name"),
    "name in upper case": (event("bad", b',"Name":"x"'), "attribute_name"),
    "name with line break": (event("bad", b',"a\\nb\\u001b[2J\\r":"x"'), "attribute_name"),
    "object with a name of controls": (event("bad", b',"a\\nb\\u001b\\r\\u2028":{}'),
                                       "attribute_type"),
    "long name": (event("bad", b',"' + b"\\u001b" * 9000 + b'":"x"'), "attribute_name"),
    "unknown charset": (
        event("bad", b',"datacontenttype":"text/plain;charset=nope","data":"x"'), "charset",
    ),
    "charset that is none": (
        event("bad", b',"datacontenttype":"text/plain;charset=base64","data":"x"'), "charset",
    ),
    "charset lacks it": (
        event("bad", b',"datacontenttype":"text/plain;charset=ascii","data":"\xc3\xa9"'), "charset",
    ),
}  # fmt: skip


ENDLESS = 1_000_000
# What ends the connection, and its last answer; what stood before it is not lost.
MALFORMED_HTTP: dict[str, tuple[bytes, int, str]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed"),
    "NULs": (b"\0" * 100, 400, "malformed"),
    "no version": (b"POST /\r\n\r\n", 505, "malformed"),
    "version 9.9": (b"POST / HTTP/9.9\r\nHost: x\r\n\r\n", 400, "malformed"),
    "unknown method": (b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed"),
    "blank in the target": (b"POST /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed"),
    "NUL in the target": (b"POST /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed"),
    "blank before the colon": (b"POST / HTTP/1.1\r\nHost : x\r\n\r\n", 400, "malformed"),
    "no colon": (b"POST / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400, "malformed"),
    "folded line": (b"POST / HTTP/1.1\r\n Host: x\r\n\r\n", 400, "malformed"),
    "NUL in a value": (binary(b"ce-x: a\0b"), 400, "malformed"),
    "CR in a value": (binary(b"ce-x: a\rb"), 400, "malformed"),
    "name outside ASCII": (binary(b"ce-\xc3\xa9: x"), 400, "malformed"),
    "length no number": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400,
                         "malformed"),
    "length negative": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400,
                        "malformed"),
    "length empty": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400, "malformed"),
    "length overflows": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400,
        "malformed",
    ),
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400,
        "malformed",
    ),
    "length and chunks": (http_post(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), 400, "malformed"),
    "chunk size no number": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "malformed",
    ),
    "chunk size negative": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400, "malformed",
    ),
    "chunk size overflows": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
        400, "malformed",
    ),
    "chunk longer than it said": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400,
        "malformed",
    ),
    "chunk larger than the limit": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n"
        + b"x" * 65537, 413, "too_large",
    ),
    "length larger than the limit": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 413, "too_large",
    ),
    "endless header": (b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * ENDLESS, 431, "too_large"),
    "endless target": (b"POST /" + b"a" * ENDLESS, 431, "too_large"),
    "endless headers": (b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * (ENDLESS // 6), 431, "too_large"),
    "endless chunk extension": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * ENDLESS, 413,
        "too_large",
    ),
    "unknown expectation": (
        http_post(b"x", b"Expect: 200-maybe"), 417, "malformed",
    ),
    **{
        name: (
            b"POST / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n\r\n0\r\n\r\n", 400, "malformed",
        )
        for name, fields in {
            # Two readers could see two different requests in these (RFC 9112 6.3, 11.2).
            "coding twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "chunked twice": b"Transfer-Encoding: chunked, chunked",
            "another coding": b"Transfer-Encoding: gzip",
            "another coding behind": b"Transfer-Encoding: chunked, gzip",
            "coding misspelt": b"Transfer-Encoding: xchunked",
            "coding with a control": b"Transfer-Encoding: \x0bchunked",
            "blank before the coding's colon": b"Transfer-Encoding : chunked",
            "length with a sign": b"Content-Length: +5",
            "length with a blank": b"Content-Length: 5 5",
            "length as a list": b"Content-Length: 5, 5",
            "the same length twice": b"Content-Length: 5\r\nContent-Length: 5",
            "length in hexadecimal": b"Content-Length: 0x5",
            "lines that end in LF": b"X: a\nContent-Length: 5",
            "value over two lines": b"X: a\r\n b\r\nContent-Length: 5",
        }.items()
    },
    **{
        f"chunk {body!r}": (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body, 400,
            "malformed",
        )
        for body in (b"1\nx\n0\n\n", b"0x1\r\nx",
                     b"+1\r\nx", b"1_0\r\n", b"1 \r\nx", b"1;\x01\r\nx",
                     b"1\r\nx\r\n0\r\nContent-Length: 1\r\n\r\n")
    },
    "HTTP/1.2": (b"POST / HTTP/1.2\r\nHost: x\r\n\r\n", 400, "malformed"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed"),
}  # fmt: skip
