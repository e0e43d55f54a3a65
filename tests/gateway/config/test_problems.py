from gateway.config.problems import ConfigErrors, Position, Problem, path_text


def test_a_path_is_written_with_dots_and_positions():
    assert path_text(("routes", 0, "to", 1)) == "routes[0].to[1]"
    assert path_text(()) == ""


def test_problems_come_in_the_order_of_the_file_and_once():
    late = Problem("f", Position(3, 1), "b", "wrong")
    early = Problem("f", Position(1, 9), "a", "wrong")
    whole = Problem("f", None, "", "can't be read")
    errors = ConfigErrors([late, early, whole, late])
    assert str(errors) == "f: can't be read\nf:1:9: a: wrong\nf:3:1: b: wrong"
