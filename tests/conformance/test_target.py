from conformance.target import Request


def test_headers_are_found_in_any_case():
    request = Request(
        method="POST", target="/", headers=[("Content-TYPE", "a/b")], body=b"", at=0.0, connection=0
    )
    assert request.header("content-type") == "a/b"
    assert request.header("ce-id") is None
