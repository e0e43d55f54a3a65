"""`auto`: the affinity mask and the quotas of control groups, as files of the kernel's form."""

import os

import pytest

from gateway.workers.count import workers_of


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_number_is_that_number(tmp_path):
    assert workers_of(3, tmp_path) == 3


def test_auto_without_control_groups_is_the_affinity_mask(tmp_path):
    assert workers_of("auto", tmp_path) == 8


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8)],
)
def test_auto_is_no_more_than_the_quota_in_whole_processors(tmp_path, quota, expected):
    write(
        tmp_path, {"proc/self/cgroup": "0::/pod/a\n", "sys/fs/cgroup/pod/a/cpu.max": f"{quota}\n"}
    )
    assert workers_of("auto", tmp_path) == expected


def test_the_quota_of_a_group_above_ours_counts(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/a\n",
            "sys/fs/cgroup/pod/a/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
        },
    )
    assert workers_of("auto", tmp_path) == 3


def test_a_container_sees_its_group_at_the_root(tmp_path):
    write(
        tmp_path, {"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}
    )
    assert workers_of("auto", tmp_path) == 4


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("200000", 2)])
def test_control_groups_of_version_1(tmp_path, quota, expected):
    folder = "sys/fs/cgroup/cpu,cpuacct/docker/a"
    write(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n",
            f"{folder}/cpu.cfs_quota_us": f"{quota}\n",
            f"{folder}/cpu.cfs_period_us": "100000\n",
        },
    )
    assert workers_of("auto", tmp_path) == expected


def test_what_can_not_be_read_limits_nothing(tmp_path):
    write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "what\n"})
    assert workers_of("auto", tmp_path) == 8
