"""The bounds of what codecs remember."""

from bindings import event
from bindings.event import Event
from bindings.memory import MAX_CHARACTERS, MAX_ENTRIES, Memory


def test_a_memory_never_holds_more_than_its_entries():
    memory = Memory[int, int](entries=3)
    for number in range(100):
        memory.remember(number, -number, 1)
        assert memory[number] == -number
        assert len(memory) <= 3


def test_a_long_key_is_not_remembered():
    memory = Memory[str, bool](characters=4)
    memory.remember("abcde", True, 5)
    memory.remember("abcd", False, 4)
    assert memory == {"abcd": False}


def test_hostile_values_do_not_make_the_memories_of_events_grow():
    def size(text):
        return Event(
            id="1", source=f"/{text}", type="t", datacontenttype=f"a/{text}",
            dataschema=f"urn:{text}", extensions={text: "x"},
        ).has_json_data  # fmt: skip

    for number in range(MAX_ENTRIES + 100):
        size(f"{number}")
        size(f"{number}" + "x" * MAX_CHARACTERS)
    for memory in (
        event.KNOWN_SOURCES,
        event.KNOWN_DATASCHEMAS,
        event.KNOWN_MEDIA_TYPES,
        event.KNOWN_TYPES,
        event._JSON_TYPES,
        event._NAMES,
    ):
        assert 0 < len(memory) <= MAX_ENTRIES
        assert max(map(len, memory)) <= MAX_CHARACTERS
