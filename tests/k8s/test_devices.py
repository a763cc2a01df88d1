# SPDX-License-Identifier: Apache-2.0
"""Ids of vGPUs, and which of them go together."""

from __future__ import annotations

import pytest
from orion_device_plugin import devices, kubelet_api

ONE, TWO = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"


def ids(uuid: str, *numbers: int) -> list[str]:
    return [devices.vgpu_id(uuid, n) for n in numbers]


def test_id_is_the_uuid_as_tools_print_it_and_a_number() -> None:
    assert devices.vgpu_id(ONE, 7) == "GPU-01234567-89ab-cdef-0123-456789abcdef::7"
    assert len(devices.vgpu_id(ONE, 999999)) <= kubelet_api.ID_MOST


def test_ids_and_the_servers_names_are_two_ways_to_say_the_same() -> None:
    vgpus = {ONE: [0, 3], TWO: [12]}
    assert devices.vgpus_of(devices.vgpu_ids(vgpus)) == vgpus


@pytest.mark.parametrize(
    "text", ["", "GPU-1::1", "gmem-3", f"{devices.vgpu_id(ONE, 1)}x", f"{ONE}::1", "GPU-../::1"]
)
def test_strange_id_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no vGPU"):
        devices.vgpus_of([text])


def test_device_without_its_uuid_is_not_offered() -> None:
    status = {"devices": [{"uuid": "", "vgpus": 8, "memory_total": 1}]}
    assert devices.cards_of(status) == ()


def test_vgpus_of_one_container_come_from_one_card() -> None:
    available = ids(ONE, 0, 1) + ids(TWO, 0, 1, 2)
    assert devices.prefer(available, [], 3) == ids(TWO, 0, 1, 2)


def test_pack_takes_the_card_with_least_room_that_fits() -> None:
    available = ids(ONE, 4, 5, 6) + ids(TWO, 0, 1, 2, 3)
    assert devices.prefer(available, [], 2) == ids(ONE, 4, 5)


def test_spread_takes_the_card_with_most_room() -> None:
    available = ids(ONE, 4, 5, 6) + ids(TWO, 0, 1, 2, 3)
    assert devices.prefer(available, [], 2, spread=True) == ids(TWO, 0, 1)


def test_required_ones_are_kept_and_draw_the_rest_to_their_card() -> None:
    available = ids(ONE, 0, 1) + ids(TWO, 0, 1, 2, 10)
    assert devices.prefer(available, ids(TWO, 10), 3) == ids(TWO, 10, 0, 1)


def test_what_fits_on_no_card_takes_as_few_cards_as_possible() -> None:
    available = ids(ONE, 0) + ids(TWO, 0, 1, 2)
    assert sorted(devices.prefer(available, [], 4)) == sorted(available)
    assert devices.prefer(available, [], 4)[:3] == ids(TWO, 0, 1, 2)


def test_numbers_are_counted_not_spelled() -> None:
    assert devices.prefer(ids(ONE, 10, 9, 2), [], 2) == ids(ONE, 2, 9)


def test_memory_is_offered_in_whole_units() -> None:
    cards = [devices.Card(ONE, 4, (1 << 30) + 5), devices.Card(TWO, 4, 300 << 20)]
    assert len(devices.all_gmem(cards)) == 5
    assert devices.gmem_bytes(devices.all_gmem(cards)) == 5 * (256 << 20)


def test_messages_have_the_kubelets_encoding() -> None:
    """Bytes by the rules of protobuf: field number << 3 | 2, length, content."""
    message = kubelet_api.plugin_messages
    request = message["RegisterRequest"](
        version="v1beta1",
        endpoint="e",
        resource_name="r/g",
        options=message["DevicePluginOptions"](get_preferred_allocation_available=True),
    )
    assert request.SerializeToString() == b"\x0a\x07v1beta1\x12\x01e\x1a\x03r/g\x22\x02\x10\x01"
    answer = message["ContainerAllocateResponse"](
        envs={"A": "b"},
        mounts=[message["Mount"](container_path="/c", host_path="/h", read_only=True)],
    )
    assert answer.SerializeToString() == (
        b"\x0a\x06\x0a\x01A\x12\x01b\x12\x0a\x0a\x02/c\x12\x02/h\x18\x01"
    )
    device = message["Device"].FromString(b"\x0a\x01x\x12\x07Healthy\x1a\x04\x0a\x02\x08\x01")
    assert (device.ID, device.health, device.topology.nodes[0].ID) == ("x", "Healthy", 1)
    prefer = message["ContainerPreferredAllocationRequest"].FromString(
        b"\x0a\x01a\x12\x01b\x18\x02"
    )
    assert list(prefer.available_deviceIDs) == ["a"]
    assert (list(prefer.must_include_deviceIDs), prefer.allocation_size) == (["b"], 2)
    pod = kubelet_api.pod_messages["PodResources"].FromString(
        b"\x0a\x01p\x12\x01n\x1a\x0b\x0a\x01c\x12\x06\x0a\x01r\x12\x01d"
    )
    assert (pod.namespace, pod.name) == ("n", "p")
    assert list(pod.containers[0].devices[0].device_ids) == ["d"]
