"""The model of a power cut: what is synced stays, the rest may go."""

from pathlib import Path
from random import Random

import pytest

from tests.faults import platter

LANE = Path("/state/spool/faults/out")
SEGMENT = "00000000000000000001.seg"


@pytest.fixture
def attic(tmp_path):
    folder = tmp_path / "attic"
    folder.mkdir()
    return folder


def left(journal, attic, to, chance=None):
    """What a cut leaves, by name; None when the folder itself is gone."""
    platter.leave(platter.read(journal, LANE), attic, to, chance)
    return {path.name: path.read_bytes() for path in to.iterdir()} if to.exists() else None


def test_only_what_was_synced_is_left(attic, tmp_path):
    (attic / "1").write_bytes(b"synced, and not")
    journal = [["create", 1, SEGMENT], ["synced", 1, 6], ["names", str(LANE)]]
    assert left(journal, attic, tmp_path / "cut") == {SEGMENT: b"synced"}


def test_a_file_whose_name_was_not_synced_is_gone(attic, tmp_path):
    (attic / "1").write_bytes(b"synced")
    journal = [["create", 1, SEGMENT], ["synced", 1, 6]]
    assert left(journal, attic, tmp_path / "cut") == {}


def test_a_folder_whose_name_was_not_synced_is_gone(attic, tmp_path):
    (attic / "1").write_bytes(b"synced")
    journal = [
        ["folder", str(LANE)], ["create", 1, SEGMENT], ["synced", 1, 6], ["names", str(LANE)],
    ]  # fmt: skip
    assert left(journal, attic, tmp_path / "cut") is None
    journal.append(["names", str(LANE.parent)])
    assert left(journal, attic, tmp_path / "cut") == {SEGMENT: b"synced"}


def test_what_was_removed_and_renamed_is_back(attic, tmp_path):
    (attic / "1").write_bytes(b"events")
    (attic / "2").write_bytes(b"old")
    (attic / "3").write_bytes(b"new")
    journal = [
        ["base", 1, SEGMENT, 6], ["base", 2, "cursor", 3],
        ["create", 3, "cursor.new"], ["synced", 3, 3], ["move", 3, "cursor.new", "cursor"],
        ["remove", 1, SEGMENT],
    ]  # fmt: skip
    assert left(journal, attic, tmp_path / "cut") == {SEGMENT: b"events", "cursor": b"old"}
    journal.append(["names", str(LANE)])
    assert left(journal, attic, tmp_path / "synced") == {"cursor": b"new"}


def test_what_a_failed_sync_was_for_never_becomes_durable(attic, tmp_path):
    (attic / "1").write_bytes(b"good, not good")
    journal = [
        ["create", 1, SEGMENT], ["synced", 1, 4], ["names", str(LANE)],
        ["unsynced", 1], ["synced", 1, 14],
    ]  # fmt: skip
    assert left(journal, attic, tmp_path / "cut") == {SEGMENT: b"good"}


def test_what_was_cut_off_may_be_back(attic, tmp_path):
    (attic / "1").write_bytes(b"good")
    (attic / "1.tail").write_bytes(b", refused")
    journal = [["base", 1, SEGMENT, 4], ["unsynced", 1], ["cut", 1, 4]]
    found = {
        left(journal, attic, tmp_path / f"cut-{seed}", Random(seed))[SEGMENT] for seed in range(40)
    }
    assert {b"good", b"good, refused"} <= found
    assert all(content.startswith(b"good") for content in found)


def test_whatever_happens_to_the_rest_what_is_synced_is_there(attic, tmp_path):
    (attic / "1").write_bytes(b"synced" + bytes(range(200)))
    journal = [["create", 1, SEGMENT], ["synced", 1, 6], ["names", str(LANE)]]
    found = [
        left(journal, attic, tmp_path / f"cut-{seed}", Random(seed))[SEGMENT] for seed in range(60)
    ]
    assert all(content.startswith(b"synced") for content in found)
    assert len(set(found)) > 10
