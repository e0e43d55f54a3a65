from typing import get_args

from conformance import options


def test_every_option_says_what_it_is_for():
    found = [
        value.__metadata__[0] for value in vars(options).values() if hasattr(value, "__metadata__")
    ]
    assert len(found) >= 10
    assert all(option.help and option.help.endswith(".") for option in found)


def test_the_profiles_of_the_option_are_those_of_checks():
    from conformance.check import PROFILES

    assert get_args(get_args(options.ProfileOption)[0]) == PROFILES
