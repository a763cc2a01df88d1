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
