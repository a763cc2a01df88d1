# SPDX-License-Identifier: Apache-2.0
"""scripts/k8s_real without a cluster: what it asks for, what it makes of files, what it may publish."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # last: what is tested besides is what is installed

from scripts.k8s_real import (  # noqa: E402
    build,
    clients,
    cluster,
    debian,
    images,
    layers,
    needs,
    node,
    protocol,
    shell,
    story,
    transcript,
)


def missing(**changed: Any) -> str | None:
    """On a machine that has everything but what is said."""
    machine: dict[str, Any] = {
        "user": 0,
        "has": lambda name: True,
        "exists": lambda path: True,
        "machine": "x86_64",
        "free": 100 << 30,
        "built": False,
    }
    return needs.first_missing(**{**machine, **changed})


def test_a_machine_with_everything_lacks_nothing() -> None:
    assert missing() is None


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"user": 1000}, "sudo make k8s-real"),
        ({"machine": "aarch64"}, "aarch64"),
        ({"has": lambda name: name != "apt-get"}, "there is no apt-get"),
        ({"has": lambda name: name not in ("gcc", "ip")}, "apt-get install gcc iproute2"),
        ({"exists": lambda path: path != needs.KEYS}, "install debian-archive-keyring"),
        ({"exists": lambda path: path.name != "memory"}, "unified_cgroup_hierarchy=0"),
        ({"exists": lambda path: path.name != "kmsg"}, "mknod /dev/kmsg"),
        ({"free": 4 << 30}, "ORION_K8S_CACHE"),
    ],
)
def test_what_is_missing_is_said_with_its_remedy(changed: dict[str, Any], remedy: str) -> None:
    said = missing(**changed)
    assert said is not None
    assert remedy in said
    assert "\n" not in said


def test_less_room_is_needed_once_kubernetes_is_built() -> None:
    assert missing(free=4 << 30, built=True) is None


def test_command_ends_with_2_and_a_sentence_where_it_cannot_run(tmp_path: Path) -> None:
    """No tool is found on an empty PATH, or the user is not root: whichever comes first."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.k8s_real"],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "ORION_K8S_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("k8s-real: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "cache").exists()


def test_apt_is_kept_to_the_cache(tmp_path: Path) -> None:
    lines = debian.configuration(tmp_path).splitlines()
    places = {line.split()[0]: line.split('"')[1] for line in lines}
    for name, place in places.items():
        if name.startswith("Dir::"):
            assert place == "/dev/null" or place.startswith(str(tmp_path)), name
    assert {"Dir::State", "Dir::State::status", "Dir::Cache", "Dir::Etc::sourceparts"} <= set(
        places
    )


def test_programs_know_the_version_that_debian_packed() -> None:
    version = build.upstream("1.20.5+really1.20.2")
    assert version == "v1.20.2"
    flags = build.linker_flags(version)
    assert flags.count(".gitVersion=v1.20.2") == 2
    assert flags.count(".gitMinor=20") == 2
    with pytest.raises(shell.CannotRun, match="no version"):
        build.upstream("latest")


def test_types_of_the_api_are_found_by_their_tag(tmp_path: Path) -> None:
    files = {
        "pkg/apis/abac/v0/doc.go": "// +k8s:openapi-gen=true\npackage v0\n",
        "pkg/kubelet/kubelet.go": "package kubelet // +k8s:openapi-gen=true\n",
        "staging/src/k8s.io/api/core/v1/doc.go": "// Text.\n// +k8s:openapi-gen=true\n",
        "staging/src/k8s.io/sample-apiserver/pkg/doc.go": "// +k8s:openapi-gen=true\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert build.tagged_packages(tmp_path) == [
        "k8s.io/kubernetes/pkg/apis/abac/v0",
        "k8s.io/kubernetes/vendor/k8s.io/api/core/v1",
    ]


def test_cache_is_full_only_after_its_last_step(tmp_path: Path) -> None:
    cache = build.Cache(tmp_path)
    assert cache.version is None
    (tmp_path / "version").write_text("v1.20.2\n")
    assert cache.version == "v1.20.2"
    cache.protocols.mkdir()
    assert cache.fill() == "v1.20.2"


LDD = """\
/usr/bin/one:
\tlinux-vdso.so.1 (0x00007f)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)
\tlibgone.so.1 => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f)
/usr/lib/two.so:
\tstatically linked
"""


def test_libraries_are_read_from_ldd() -> None:
    expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
    assert layers.libraries_in(LDD) == [Path(path) for path in expected]


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_program_runs_in_an_image_that_has_nothing_else(tmp_path: Path) -> None:
    layer = layers.Layer(tmp_path / "tree")
    images.program_layer(layer, ("sh",), [])
    done = subprocess.run(
        ["chroot", layer.folder, "/bin/sh", "-c", "echo here"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr


def test_archive_holds_what_its_manifest_names(tmp_path: Path) -> None:
    layer = layers.Layer(tmp_path / "tree")
    layer.make()
    tar = tmp_path / "layer-tree.tar"
    digest = layer.pack(tar)
    server = images.dockerfile.stages()["server"]
    config = images.configuration(server, [digest])
    archive = tmp_path / "images.tar"
    images.write_archive(archive, {"a:1": (config, [tar]), "b:1": (config, [tar])})
    with tarfile.open(archive) as read:
        names = read.getnames()
        assert len(names) == len(set(names))  # a layer that images share is there once

        def content(name: str) -> bytes:
            file = read.extractfile(name)
            assert file is not None
            return file.read()

        for image in json.loads(content("manifest.json")):
            said = json.loads(content(image["Config"]))
            (packed,) = image["Layers"]
            hashed = hashlib.sha256(content(packed)).hexdigest()
            assert said["rootfs"]["diff_ids"] == [f"sha256:{hashed}"]
            assert said["config"]["Entrypoint"] == server.entrypoint
            assert "ORION_DEVICE=auto" in said["config"]["Env"]
        with tarfile.open(fileobj=io.BytesIO(content(packed))) as tree:
            assert {info.uid for info in tree} == {0}


def test_images_are_those_that_the_manifests_name() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    made = {f"orion-{name}:{images.TAG}" for name in images.NAMES}
    for file in (ROOT / "k8s/deploy").glob("deploy-*.yaml"):
        for one in yaml.safe_load_all(file.read_text()):
            spec = one.get("spec", {}).get("template", {}).get("spec", {})
            assert {c["image"] for c in spec.get("containers", [])} <= made


@pytest.mark.parametrize("way", clients.WAYS)
def test_job_has_what_its_way_to_the_server_needs_and_no_more(way: str) -> None:
    pytest.importorskip("yaml", reason="needs PyYAML")
    pod = clients.job("name", way, "faults", "wait")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {one["name"] for one in container["env"]}
    assert container["name"] == clients.CONTAINER
    assert pod.get("hostIPC", False) == (way == "hostipc")
    assert (clients.GPU in container["resources"]["limits"]) == (way == "socket")
    assert ("ORION_CONTROLLER" in variables) == (way != "socket")
    assert ("initContainers" in pod) == (way != "socket")


def test_users_of_the_api_server_have_the_groups_of_its_own_roles() -> None:
    tokens = {who: f"token-{who}" for who in cluster.USERS}
    lines = cluster.token_file(tokens).splitlines()
    assert 'token-admin,admin,admin,"system:masters"' in lines
    assert 'token-kubelet,system:node:node-1,kubelet,"system:nodes"' in lines
    assert json.loads(cluster.kubeconfig("secret"))["users"][0]["user"] == {"token": "secret"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pod 172.17.0.2 on 10.0.0.10, 127.0.0.1:9123, 0.0.0.0:9961", []),
        ("containerd 1.6.20, etcd 3.4.23", []),
        ("lookup node on 10.255.255.53:53", ["10.255.255.53"]),
        ("curl https://192.0.2.7/", ["192.0.2.7"]),
        ("/srv/me/orion: no such file", ["/srv/me"]),
        ("registered as vm:9960", ["vm"]),
        ("pod way-socket-vmvkk", []),
        ("999.1.1.1 is no address", []),
    ],
)
def test_transcript_shows_no_other_address_and_no_private_word(text: str, found: list[str]) -> None:
    assert transcript.foreign(text, ["/srv/me", "vm", ""]) == found


def test_page_has_commands_and_answers_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript, "private_words", lambda: ["secret-host"])
    told = transcript.Transcript()
    told.heading("One")
    told.command("kubectl get nodes", "node-1   Ready  \n")
    told.command("kubectl get pods", "none\n")
    told.say("A sentence.")
    page = told.page({"Kubernetes": "v1.20.2"}, "a device")
    block = (
        "```\n$ kubectl get nodes\nnode-1   Ready\n$ kubectl get pods\nnone\n```\n\nA sentence.\n"
    )
    assert page.endswith(f"\n\n## One\n\n{block}")
    assert "| Kubernetes | v1.20.2 |\n| device | a device |" in page
    told.command("hostname", "secret-host")
    with pytest.raises(shell.CannotRun, match="secret-host"):
        told.page({}, "")


# --- the kubelet's interfaces

PROTO = """
syntax = 'proto3'; // comments, and options
package bakery.v2;
option (maker.everything) = true;
service Oven {
  rpc Bake(Dough) returns (stream Bread) {}
  // rpc Burn(Dough) returns (Bread) {}
  rpc Clean (Empty)  returns (Empty) {
  }
}
message Empty {}
message Dough {
    string flour = 1; /* message Not { string a = 1; } */
    repeated Grain grains = 2 [(maker.name) = "G;x"];
    map<string,string> labels = 5;
    int64 grams = 10;
}
message Grain { bool whole = 1; }
message Bread { repeated string slices = 3; }
"""
DOUGH = {
    "flour": "string = 1",
    "grains": "repeated Grain = 2",
    "labels": "map<string, string> = 5",
    "grams": "int64 = 10",
}


def test_proto_file_is_read() -> None:
    read = protocol.parse(PROTO)
    assert read.messages == {
        "Empty": {},
        "Dough": DOUGH,
        "Grain": {"whole": "bool = 1"},
        "Bread": {"slices": "repeated string = 3"},
    }
    assert read.methods == {
        "/bakery.v2.Oven/Bake": ("Dough", "Bread", True),
        "/bakery.v2.Oven/Clean": ("Empty", "Empty", False),
    }


def test_less_than_the_official_file_is_no_difference_and_anything_else_is() -> None:
    official = protocol.parse(PROTO)
    fewer = protocol.Interface({"Dough": {"flour": "string = 1", "gra_ins": DOUGH["grains"]}}, {})
    assert protocol.differences(fewer, official) == []
    wrong = protocol.Interface(
        {"Dough": {"flour": "string = 2", "salt": "string = 7"}, "Cake": {}},
        {
            "/bakery.v2.Oven/Bake": ("Dough", "Bread", False),
            "/bakery.v1.Oven/Clean": ("E", "E", False),
        },
    )
    assert [line.partition(":")[0] for line in protocol.differences(wrong, official)] == [
        "Dough.flour",
        "Dough.salt",
        "message Cake",
        "/bakery.v2.Oven/Bake",
        "/bakery.v1.Oven/Clean",
    ]


def test_our_side_is_what_the_classes_encode() -> None:
    plugin, pods = protocol.all_ours().values()
    answer = plugin.messages["ContainerAllocateResponse"]
    assert answer["envs"] == "map<string, string> = 1"
    assert answer["mounts"] == "repeated Mount = 2"
    assert plugin.messages["NUMANode"] == {"ID": "int64 = 1"}
    assert plugin.methods["/v1beta1.DevicePlugin/ListAndWatch"] == (
        "Empty",
        "ListAndWatchResponse",
        True,
    )
    assert list(pods.methods) == ["/v1.PodResourcesLister/List"]


def test_comparison_ends_with_1_and_names_the_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / protocol.NAMES[1]
    file.parent.mkdir(parents=True)
    mine = protocol.all_ours()[protocol.NAMES[1]]
    text = ["package v1;", "message More { string new = 1; }"]
    for name, fields in mine.messages.items():
        lines = (f"{kind.replace(' =', f' {field} =')};" for field, kind in fields.items())
        text.append(f"message {name} {{ {' '.join(lines)} }}")
    text.append(
        "service PodResourcesLister { rpc List(ListPodResourcesRequest) returns (ListPodResourcesResponse) {} }"
    )
    file.write_text("\n".join(text))
    assert protocol.main([str(file)]) == 0
    fields = sum(map(len, mine.messages.values()))
    assert f"5 of its 6 messages, {fields} of its {fields + 1} fields" in capsys.readouterr().out
    file.write_text("\n".join(text).replace("namespace = 2", "namespace = 4"))
    assert protocol.main([str(file)]) == 1
    said = "PodResources.namespace: string = 2, and officially string = 4"
    assert said in capsys.readouterr().out


def test_guide_is_followed_with_the_guides_own_verb() -> None:
    """docs/kubernetes.md has `kubectl create -f`, file by file."""
    shown: list[tuple[str, ...]] = []

    class Recorder:
        def show(self, *command: str, **_: Any) -> str:
            shown.append(command)
            return story.PASSED

        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    story.deploy(Recorder())  # type: ignore[arg-type]
    story.client(Recorder())  # type: ignore[arg-type]
    made = [command[-1] for command in shown if command[:3] == ("kubectl", "create", "-f")]
    guide = (ROOT / "docs/kubernetes.md").read_text()
    lines = [line for line in guide.splitlines() if line.startswith("kubectl create -f deploy-")]
    names = [Path(path).name.replace("cuda9.0", "cuda13") for path in made]  # any one of them
    assert names == [line.split()[3] for line in lines]


# --- a node, without Kubernetes

GROUP = "orion-k8s-test"
why_not = needs.first_missing(
    user=os.geteuid(),
    has=lambda name: shutil.which(name) is not None,
    exists=Path.exists,
    machine=platform.machine(),
    free=needs.BUILD_BYTES,
    built=True,
)
needs_node = pytest.mark.skipif(why_not is not None, reason=f"needs a node: {why_not}")
OWNER = f"""
import sys, time
from pathlib import Path
sys.path.append({str(ROOT)!r})
from scripts.k8s_real.node import Node
folder = Path(sys.argv[1])
node = Node(folder, [], folder, {GROUP!r})
print(node.init_pid, flush=True)
time.sleep(600)
"""


def groups() -> list[Path]:
    return list(node.CGROUPS.glob(f"*/{GROUP}"))


@needs_node
def test_node_has_a_network_and_folders_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    made = node.Node(tmp_path / "node", [], tmp_path, GROUP)
    try:
        assert made.run("hostname").stdout == f"{node.NAME}\n"
        links = made.run("ip", "-o", "-4", "addr").stdout.splitlines()
        addresses = {line.split()[1]: line.split()[3].partition("/")[0] for line in links}
        assert addresses == {"lo": "127.0.0.1", "eth0": node.ADDRESS, "docker0": node.BRIDGE}
        assert "default" not in made.run("ip", "route").stdout
        assert made.run("ls", "/var/lib").stdout == "kubelet\n"
        program = made.start("waiting", "/bin/sleep", "600")
        shell.wait_for(lambda: len(made.pids("sleep")) == 1, "the program", 30.0)
        program.check()
        program.kill()
        program.check()  # we have ended it
        program.start()
        assert len(groups()) >= len(needs.CONTROLLERS)
    finally:
        made.close()
    assert not made.folder.exists()
    assert groups() == []
    assert program.process.poll() is not None


@needs_node
def test_program_that_ends_by_itself_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    made = node.Node(tmp_path / "node", [], tmp_path, GROUP)
    try:
        made.start("short", "sh", "-c", "echo I cannot; exit 1").process.wait(30)
        with pytest.raises(shell.CannotRun, match="short has ended by itself:\nI cannot"):
            made.check()
    finally:
        made.close()


@needs_node
def test_node_is_gone_when_its_owner_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path / "killed")]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline().startswith("k8s-real: making a node")
    init = int(owner.stdout.readline())
    assert Path(f"/proc/{init}").exists()
    owner.kill()
    owner.communicate()
    shell.wait_for(lambda: not Path(f"/proc/{init}").exists(), "the end of the node", 30.0)
    node.Node(
        tmp_path / "node", [], tmp_path, GROUP
    ).close()  # the next one removes the groups that were left
    assert groups() == []


def test_failed_program_is_an_error_with_the_end_of_what_it_said(tmp_path: Path) -> None:
    assert shell.run(["echo", "fine"], "echo") == "fine\n"
    with pytest.raises(shell.CannotRun, match=r"trying failed \(exit 3\):\nthe reason"):
        shell.run(["sh", "-c", "echo the reason >&2; exit 3"], "trying")


def test_waiting_in_vain_is_said() -> None:
    assert shell.wait_for(lambda: True, "nothing") < 1.0
    with pytest.raises(shell.WentWrong, match="the moon: not within 0 s"):
        shell.wait_for(lambda: False, "the moon", 0.0)
