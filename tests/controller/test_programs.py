# SPDX-License-Identifier: Apache-2.0
"""Unmodified programs that find their server through ORION_CONTROLLER, with real controllers and servers."""

from __future__ import annotations

import os

import pytest
from controller_processes import ControllerProcess, HoldingProgram, nothing_leased, wait_for

MIB = 1 << 20
DEVICE_UNAVAILABLE = 46
MOUNTED = "/run/orion/orion.sock"

pytestmark = pytest.mark.skipif(
    os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here, and libcuda.so.1 would take that"
)


def test_a_program_gets_a_vgpu_and_gives_it_back(controller, make_server, libcuda):
    make_server(controller)
    program = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address, ORION_GMEM="64")
    assert program.ready() == {"result": 0, "total": 64 * MIB}
    wait_for(lambda: controller.overview()["clients"], "the server reports the program")
    now = controller.overview()
    assert [lease["state"] for lease in now["leases"]] == ["active"]
    assert now["clients"][0]["lease"] == now["leases"][0]["id"]
    assert now["clients"][0]["pid"] == program.process.pid
    assert now["devices"][0]["memory_leased"] == 64 * MIB
    said = program.finish()
    assert "transport tcp" not in said
    wait_for(lambda: nothing_leased(controller), "the lease is free", 3.0)


def test_a_killed_program_frees_its_lease(controller, make_server, libcuda):
    make_server(controller)
    program = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    assert program.ready()["total"] == 128 * MIB, "256 MiB by two vGPUs"
    wait_for(lambda: controller.overview()["clients"], "the server reports the program")
    program.kill()
    wait_for(lambda: nothing_leased(controller), "the lease is free", 3.0)


def test_a_program_waits_with_one_line_until_a_vgpu_is_free(controller, make_server, libcuda):
    make_server(controller)
    first = [HoldingProgram(libcuda, ORION_CONTROLLER=controller.address) for _ in range(2)]
    assert all(p.ready()["result"] == 0 for p in first)
    late = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    wait_for(lambda: controller.overview()["queue"], "it waits")
    assert "all 2 vGPUs of 1 device are in use" in controller.overview()["queue"][0]["reason"]
    first[0].finish()
    assert late.ready()["result"] == 0
    said = late.finish()
    lines = [line for line in said.splitlines() if "waiting for a vGPU" in line]
    assert len(lines) == 1
    assert "ORION_WAIT" in lines[0]
    first[1].finish()


def test_programs_that_wait_for_a_server_are_served_when_it_comes(controller, make_server, libcuda):
    """Its first heartbeat does not yet mean that it knows the controller's tokens."""
    programs = [HoldingProgram(libcuda, ORION_CONTROLLER=controller.address) for _ in range(2)]
    wait_for(lambda: len(controller.overview()["queue"]) == 2, "they wait")
    make_server(controller)
    assert [p.ready()["result"] for p in programs] == [0, 0], [p.finish() for p in programs]
    for program in programs:
        program.finish()


@pytest.mark.parametrize("seconds", ["0", "1"])
def test_a_program_that_will_not_wait_fails_with_the_reason(
    controller, make_server, libcuda, seconds
):
    make_server(controller, "--vgpu", "1")
    first = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    assert first.ready()["result"] == 0
    late = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address, ORION_WAIT=seconds)
    assert late.ready()["result"] == 100
    said = late.finish()
    assert f"no vGPU was free within ORION_WAIT={seconds} seconds: all 1 vGPUs" in said
    assert not controller.overview()["queue"]
    first.finish()


def test_a_program_that_wants_two_devices_is_told_that_it_has_one(controller, make_server, libcuda):
    make_server(controller)
    program = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address, ORION_VGPU="2")
    assert program.ready()["result"] == DEVICE_UNAVAILABLE
    assert "ORION_VGPU=2: a program has one device here" in program.finish()
    assert nothing_leased(controller)


def test_a_program_that_is_killed_while_it_waits_leaves_the_queue(controller, make_server, libcuda):
    make_server(controller, "--vgpu", "1")
    first = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    assert first.ready()["result"] == 0
    late = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    wait_for(lambda: controller.overview()["queue"], "it waits")
    late.kill()
    wait_for(lambda: not controller.overview()["queue"], "it has left", 3.0)
    first.finish()


@pytest.mark.parametrize("transport", ["auto", "tcp", "devshm"])
def test_the_servers_address_serves_when_its_socket_is_out_of_reach(
    controller, make_server, libcuda, transport, tmp_path
):
    server = make_server(controller, "--vgpu", "1", "--bind", "127.0.0.1:0")
    hidden = tmp_path / "hidden"
    server.socket.rename(hidden)  # as in a container that does not mount it
    try:
        for _ in range(3):  # each lease is found again, whatever was tried on the way
            program = HoldingProgram(
                libcuda,
                ORION_CONTROLLER=controller.address,
                ORION_TRANSPORT=transport,
                ORION_WAIT="10",
            )
            assert program.ready()["result"] == 0, program.finish()
            program.finish()
    finally:
        hidden.rename(server.socket)


def test_a_server_of_its_own_needs_the_lease(controller, make_server, libcuda):
    """With a controller, nobody comes over TCP without a token."""
    server = make_server(controller, "--bind", "127.0.0.1:0")
    bind = server.status()["server"]["bind"]
    program = HoldingProgram(libcuda, ORION_SERVER=bind, ORION_TRANSPORT="tcp")
    assert program.ready()["result"] != 0
    assert "wants a token" in program.finish()


def test_losing_the_controller_is_not_noticed_by_programs(controller, make_server, libcuda):
    make_server(controller)
    program = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    assert program.ready()["result"] == 0
    wait_for(lambda: controller.overview()["clients"], "the server reports the program")
    before = controller.overview()["leases"]
    controller.kill()
    refused = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    assert refused.ready()["result"] == 100
    assert f"no controller answers at {controller.address}" in refused.finish()
    controller.start()
    wait_for(lambda: controller.overview()["clients"], "the server has registered again")
    after = controller.overview()["leases"]
    assert [lease["id"] for lease in after] == [lease["id"] for lease in before]
    assert after[0]["state"] == "active"
    another = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    assert another.ready()["result"] == 0, "the second vGPU is still free"
    assert program.finish() == ""
    assert program.process.returncode == 0
    another.finish()
    wait_for(lambda: nothing_leased(controller), "all is free", 3.0)


def test_a_lost_database_is_made_up_for_by_the_servers(controller, make_server, libcuda):
    make_server(controller)
    program = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    assert program.ready()["result"] == 0
    wait_for(lambda: controller.overview()["clients"], "the server reports the program")
    controller.kill()
    for file in (controller.folder / "state").glob("controller.sqlite*"):
        file.unlink()
    controller.start()
    wait_for(lambda: controller.overview()["leases"], "the lease is adopted")
    assert "adopted" in [e["event"] for e in controller.events()]
    program.finish()
    wait_for(lambda: nothing_leased(controller), "all is free", 3.0)


def test_a_client_key_is_wanted_and_never_sent(tmp_path, make_server, libcuda):
    running = ControllerProcess(tmp_path / "keyed", ORION_CLIENT_KEY="correct-horse-battery")
    try:
        with pytest.raises(AssertionError):
            running.overview()
        bare = HoldingProgram(libcuda, ORION_CONTROLLER=running.address)
        assert bare.ready()["result"] == 800
        assert "ORION_TOKEN=client.KEY" in bare.finish()
        wrong = HoldingProgram(
            libcuda, ORION_CONTROLLER=running.address, ORION_TOKEN="client.correct-horse-bakery"
        )
        assert wrong.ready()["result"] == 800
        assert "check ORION_TOKEN" in wrong.finish()
        events = running.events()
        assert sum(e["event"] == "hello refused" for e in events) == 2
        assert "battery" not in running.text()
    finally:
        running.stop()


def test_settings_may_stand_in_the_users_file(controller, make_server, libcuda, tmp_path):
    make_server(controller)
    conf = tmp_path / "home" / ".orion" / "client.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(f"[client]\nORION_CONTROLLER = {controller.address}\ngmem = 32\n")
    program = HoldingProgram(libcuda, HOME=str(tmp_path / "home"))
    assert program.ready() == {"result": 0, "total": 32 * MIB}
    program.finish()


def test_an_administrator_ends_a_lease(controller, make_server, libcuda):
    make_server(controller)
    program = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    assert program.ready()["result"] == 0
    wait_for(lambda: controller.overview()["clients"], "the server reports the program")
    lease = controller.overview()["leases"][0]["id"]
    assert controller.ask("DELETE", f"/v1/leases/{lease}")[0] in (401, 403)
    key = controller.administrator_key()
    assert controller.ask("DELETE", f"/v1/leases/{lease}", key=key)[0] == 202
    wait_for(lambda: nothing_leased(controller), "the lease has ended", 5.0)
    assert "taken back by the controller" in program.finish()


def test_a_held_lease_is_used_with_its_token(controller, make_server, libcuda):
    make_server(controller, "--bind", "127.0.0.1:0")
    status, got = controller.ask(
        "POST", "/v1/leases", {"gmem_mib": 48, "seconds": 60.0, "pod": "batch-1"}
    )
    assert status == 201, got
    grant = got["grants"][0]
    for _ in range(2):
        program = HoldingProgram(
            libcuda,
            ORION_SERVER=grant["address"],
            ORION_TOKEN=grant["token"],
            ORION_TRANSPORT="tcp",
        )
        assert program.ready() == {"result": 0, "total": 48 * MIB}, program.finish()
        wait_for(lambda: controller.overview()["clients"], "the server reports the program")
        assert controller.overview()["clients"][0]["pod"] == "batch-1"
        second = HoldingProgram(
            libcuda,
            ORION_SERVER=grant["address"],
            ORION_TOKEN=grant["token"],
            ORION_TRANSPORT="tcp",
        )
        assert second.ready()["result"] != 0
        assert "another program uses its lease now" in second.finish()
        program.finish()
        wait_for(lambda: not controller.overview()["clients"], "it has ended", 3.0)
    path = f"/v1/leases/{got['lease']['id']}"
    assert controller.ask("DELETE", path, key=got["lease_key"])[0] == 202
    wait_for(lambda: nothing_leased(controller), "the lease has ended", 5.0)
    late = HoldingProgram(
        libcuda, ORION_SERVER=grant["address"], ORION_TOKEN=grant["token"], ORION_TRANSPORT="tcp"
    )
    assert late.ready()["result"] != 0
    late.finish()


def test_a_program_waits_at_a_server_of_its_own_choice_as_well(controller, make_server, libcuda):
    """It has no controller: the server is asked again until there is room."""
    server = make_server(controller, "--vgpu", "1")
    first = HoldingProgram(libcuda, ORION_SERVER=server.address)
    assert first.ready()["result"] == 0
    late = HoldingProgram(libcuda, ORION_SERVER=server.address)
    assert late.process.stderr is not None
    said = late.process.stderr.readline()
    assert said.startswith(f"orion: waiting for a vGPU of the server at {server.address}: each of")
    assert "(ORION_WAIT=SECONDS limits this)" in said
    first.finish()
    assert late.ready()["result"] == 0
    assert late.finish().startswith("orion: got a vGPU after "), "and no other line"
    assert server.text().count("each of the 1 vGPUs is in use") <= 2, "the log is for new things"


@pytest.mark.parametrize(("seconds", "words"), [("0", "refused: each of the 1 vGPUs is in use"),
                                               ("1", "no vGPU was free within ORION_WAIT=1 seconds")])  # fmt: skip
def test_a_program_that_will_not_wait_at_a_server_fails_with_the_reason(
    controller, make_server, libcuda, seconds, words
):
    server = make_server(controller, "--vgpu", "1")
    first = HoldingProgram(libcuda, ORION_SERVER=server.address)
    assert first.ready()["result"] == 0
    late = HoldingProgram(libcuda, ORION_SERVER=server.address, ORION_WAIT=seconds)
    assert late.ready()["result"] == DEVICE_UNAVAILABLE
    assert words in late.finish()
    first.finish()


def test_what_waiting_does_not_change_is_not_waited_for(controller, make_server, libcuda):
    server = make_server(controller)
    program = HoldingProgram(libcuda, ORION_SERVER=server.address, ORION_VGPU="2")
    assert program.ready()["result"] == DEVICE_UNAVAILABLE
    assert "waiting for a vGPU" not in program.finish()


def test_the_mode_is_named_to_who_asks(controller, make_server, libcuda):
    server = make_server(controller)
    for level, said in (("info", ""), ("debug", "transport shm to")):
        program = HoldingProgram(libcuda, ORION_SERVER=server.address, ORION_LOG=level)
        assert program.ready()["result"] == 0
        got = program.finish()
        assert said in got
        assert bool(said) == bool(got), "one line, for who asks"
