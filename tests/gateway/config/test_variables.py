import re

import pytest

from gateway.config.variables import expand


def test_text_without_a_reference_stays_as_it_is():
    assert expand("$5 {x} $", {}) == "$5 {x} $"


def test_variables_are_replaced_wherever_they_stand():
    assert expand("nats://${USER}:${PASS}@h", {"USER": "a", "PASS": "b"}) == "nats://a:b@h"


def test_what_a_variable_holds_is_not_expanded_again():
    assert expand("${A}", {"A": "${B}", "B": "no"}) == "${B}"


def test_an_empty_variable_is_set():
    assert expand("[${A}]", {"A": ""}) == "[]"


def test_two_dollars_stand_for_the_reference_itself():
    assert expand("$${A} ${A}", {"A": "x"}) == "${A} x"


def test_a_file_is_read_without_the_white_space_around_its_content(tmp_path):
    path = tmp_path / "token"
    path.write_text("\n s3cret \n")
    assert expand(f"Bearer ${{file:{path}}}", {}) == "Bearer s3cret"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("${A}", "the environment variable A is not set"),
        ("${file:/nonexistent/x}", "can't read '/nonexistent/x': No such file or directory"),
        ("a ${A", "expected '}' after '${'"),
        ("${}", "'${}' is no reference"),
        ("${1A}", "'${1A}' is no reference"),
        ("${A:-b}", "'${A:-b}' is no reference"),
    ],
)
def test_a_wrong_reference_says_what_is_wrong(text, wrong):
    with pytest.raises(ValueError, match=f"^{re.escape(wrong)}"):
        expand(text, {})


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="it is not UTF-8"):
        expand(f"${{file:{path}}}", {})
