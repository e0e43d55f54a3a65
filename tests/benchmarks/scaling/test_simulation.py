"""The simulation against plain arithmetic."""

import pytest

from tests.benchmarks.scaling.simulation import MOST, Costs, need, simulate

FREE = Costs(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def costs(**changes):
    return Costs(**{**FREE.__dict__, **changes})


def test_with_little_to_do_an_event_waits_for_its_own_service_only():
    service, devices = 0.001, 6000
    pod = simulate(devices, 1, "spread", costs(per_event=service))
    assert pod.load == pytest.approx(devices / 60 * service)
    assert pod.p50 == pytest.approx(service, rel=0.02)


def test_a_list_that_costs_the_same_whatever_its_length_never_falls_behind():
    pod = simulate(100_000, 1, "aligned", costs(per_list=0.001))
    assert pod.longest <= 2 * 0.001 + 1e-9
    assert pod.waiting <= MOST


def test_a_pod_that_can_not_keep_up_is_behind_by_the_work_that_is_left():
    # 10,000 events of 1 ms are 10 s of work, and come within 2 s.
    pod = simulate(10_000, 1, "aligned", costs(per_event=0.001))
    assert pod.longest == pytest.approx(8.0, abs=0.3)
    assert pod.seconds == pytest.approx(10.0, abs=0.01)
    assert pod.waiting == pytest.approx(8000, rel=0.05)


def test_twice_the_pods_take_half_of_the_load_and_of_the_memory():
    measured = costs(per_event=0.0001, device_bytes=1000)
    one, two = (simulate(20_000, pods, "spread", measured) for pods in (1, 2))
    assert two.load == pytest.approx(one.load / 2)
    assert two.mib == pytest.approx(one.mib / 2)


def test_after_a_restart_each_device_costs_a_connection_too():
    measured = costs(per_event=0.0001, per_connect=0.0009)
    assert simulate(10_000, 1, "reconnect", measured).load == pytest.approx(10 / 60)


def test_the_need_is_what_the_formula_says():
    # 60,000 devices: 1,000 events/s of 1 ms are one core; 60,000 x 100 KiB are 5,859 MiB.
    measured = costs(per_event=0.001, device_bytes=100 * 1024, base_bytes=24 * 2**20)
    assert need(60_000, measured, share=0.5, pod_mib=1024).for_cpu == 2
    assert need(60_000, measured, share=0.5, pod_mib=1024).for_memory == 6
    assert need(60_000, measured).pods == 6
