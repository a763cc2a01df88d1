# SPDX-License-Identifier: Apache-2.0
"""The manifests: valid in three versions of Kubernetes, rendered as committed, and no more privileged than they say."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pod_security
import pytest

yaml = pytest.importorskip("yaml", reason="needs PyYAML")
kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="needs kubernetes-validate (extra `test`)"
)

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))
import manifests  # noqa: E402

VERSIONS = (
    "1.29",
    "1.34",
    "1.37",
)  # the oldest promised, where DRA is on, the newest that is known here
OVERLAYS = (
    "shm-memfd",
    "shm-hostipc",
    "shm-hostipc/client",
    "tcp-pool",
    "tcp-pool/client",
    "rdma/client",
)
WITH_SERVER = ("shm-memfd", "shm-hostipc", "tcp-pool")
CUSTOM = {"monitoring.coreos.com/v1"}  # no schema of Kubernetes' own


@cache
def objects(overlay: str) -> tuple[dict[str, Any], ...]:
    folder = manifests.DEPLOY / "overlays" / overlay
    return tuple(o for o in yaml.safe_load_all(manifests.render(folder)) if o)


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """Pod templates by the component they are."""
    found = {}
    for one in objects(overlay):
        template = one.get("spec", {}).get("template")
        if template:
            labels = template["metadata"]["labels"]
            found[labels.get("app.kubernetes.io/component", "client")] = template["spec"]
    return found


def environment(pod: dict[str, Any]) -> dict[str, str | None]:
    return {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}


def test_committed_files_are_what_kustomize_makes() -> None:
    stale = [p.name for p, text in manifests.rendered().items() if p.read_text() != text]
    assert not stale, f"run `make manifests`: {stale}"


def test_every_committed_file_has_a_source() -> None:
    assert {p.name for p in manifests.DEPLOY.glob("*.yaml")} == set(manifests.FILES)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_pass_the_strict_schemas(overlay: str, version: str) -> None:
    assert objects(overlay)
    for one in objects(overlay):
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(manifests.FILES))
def test_committed_files_pass_the_strict_schemas(name: str, version: str) -> None:
    for one in yaml.safe_load_all((manifests.DEPLOY / name).read_text()):
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize(
    ("path", "value"), [(("hostPIDD",), True), (("containers", 0, "env", 0, "value"), 4)]
)
def test_the_schemas_notice_mistakes(path: tuple[Any, ...], value: object) -> None:
    (one,) = yaml.safe_load_all((manifests.DEPLOY / "deploy-plugin.yaml").read_text())
    place = one["spec"]["template"]["spec"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, VERSIONS[0], strict=True)


# --- privileges


def test_default_server_needs_two_folders_of_the_node_and_three_capabilities() -> None:
    server = pods("shm-memfd")["server"]
    assert sorted(pod_security.baseline(server)) == [
        "hostPath /etc/machine-id",
        "hostPath /run/orion",
    ]
    capabilities = server["containers"][0]["securityContext"]["capabilities"]
    assert capabilities == {"drop": ["ALL"], "add": ["SETUID", "SETGID", "KILL"]}


def test_plugin_needs_folders_of_the_node_and_no_capability() -> None:
    plugin = pods("shm-memfd")["plugin"]
    assert sorted(pod_security.baseline(plugin)) == [
        "hostPath /run/orion",
        "hostPath /var/lib/kubelet/device-plugins",
        "hostPath /var/lib/kubelet/pod-resources",
        "hostPath /var/lib/orion/lib",
    ]
    assert plugin["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_program_of_the_classic_guide_breaks_restricted_by_hostipc_alone() -> None:
    assert list(pod_security.restricted(pods("shm-hostipc/client")["client"])) == ["hostIPC"]


def test_program_without_hostipc_is_restricted() -> None:
    (job,) = (o for o in yaml.safe_load_all(manifests.render(manifests.DEPLOY / "base" / "client")))
    assert list(pod_security.restricted(job["spec"]["template"]["spec"])) == []


def test_controller_of_the_pool_is_restricted() -> None:
    assert list(pod_security.restricted(pods("tcp-pool")["controller"])) == []


def test_server_of_the_pool_needs_what_the_default_one_does() -> None:
    server, default = pods("tcp-pool")["server"], pods("shm-memfd")["server"]
    assert list(pod_security.baseline(server)) == list(pod_security.baseline(default))
    contexts = [pod["containers"][0]["securityContext"] for pod in (server, default)]
    assert contexts[0] == contexts[1]


def test_classic_server_and_controller_need_the_hosts_network_and_dev_shm_beside() -> None:
    found = pods("shm-hostipc")
    assert sorted(pod_security.baseline(found["server"])) == [
        "hostNetwork",
        "hostPath /dev/shm",
        "hostPath /etc/machine-id",
        "hostPath /run/orion",
    ]
    capabilities = found["server"]["containers"][0]["securityContext"]["capabilities"]
    assert capabilities == {"drop": ["ALL"], "add": ["SETUID", "SETGID", "KILL", "CHOWN"]}
    assert list(pod_security.restricted(found["controller"])) == ["hostNetwork"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_is_privileged_or_sees_the_hosts_processes(overlay: str) -> None:
    for pod in pods(overlay).values():
        found = set(pod_security.baseline(pod))
        assert not found & {"privileged", "hostPID", "seccomp Unconfined"}
        assert overlay.startswith("shm-hostipc") or "hostNetwork" not in found
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"]["drop"] == ["ALL"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"hostIPC": True}, "hostIPC"),
        ({"hostNetwork": True}, "hostNetwork"),
        ({"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "hostPath /"),
        ({"volumes": [{"name": "x", "nfs": {}}]}, "volume nfs"),
        ({"securityContext": {"runAsUser": 0}}, "runAsNonRoot"),
        ({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, "SELinux type spc_t"),
        ({"securityContext": {"seLinuxOptions": {"role": "x"}}}, "SELinux user or role"),
        ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, "hostProcess"),
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}, "sysctl kernel.msgmax"),
    ],
)
def test_the_levels_notice_what_they_forbid(change: dict[str, Any], found: str) -> None:
    (job,) = (o for o in yaml.safe_load_all(manifests.render(manifests.DEPLOY / "base" / "client")))
    assert found in pod_security.restricted({**job["spec"]["template"]["spec"], **change})


def test_only_the_elected_controller_has_rights_at_the_api_server() -> None:
    for overlay in OVERLAYS:
        for component, pod in pods(overlay).items():
            wants = (overlay, component) == ("tcp-pool", "controller")
            assert pod["automountServiceAccountToken"] is wants
    (role,) = (o for o in objects("tcp-pool") if o["kind"] == "Role")
    for rule in role["rules"]:
        assert rule["resources"] in (["leases"], ["endpointslices"])
        assert rule["verbs"] == ["create"] or rule["resourceNames"] == ["orion-controller"]
    assert not any(o["kind"].startswith("ClusterRole") for o in objects("tcp-pool"))


# --- what the guide promises


def test_classic_variables_are_where_the_guide_has_them() -> None:
    found = pods("shm-hostipc")
    assert environment(found["controller"])["PORT"] == "9123"
    assert environment(found["plugin"])["ORION_CONTROLLER"] == "172.17.0.1:9123"
    server = environment(found["server"])
    assert server["ORION_CONTROLLER"] == "127.0.0.1:9123"
    assert (server["BIND_ADDR"], server["PORT"]) == ("172.17.0.1", "9960")
    assert int(server["VGPU"] or 0) > 0
    client = pods("shm-hostipc/client")["client"]
    assert client["containers"][0]["resources"]["limits"]["virtaitech.com/gpu"] == "1"
    assert "ORION_GMEM" in environment(client)


def test_classic_files_differ_in_what_they_say_of_cuda_only() -> None:
    def body(version: str) -> dict[str, Any]:
        text = (manifests.DEPLOY / f"deploy-server-cuda{version}.yaml").read_text()
        (one,) = yaml.safe_load_all(text)
        for place in (one["metadata"], one["spec"]["template"]["metadata"]):
            assert place.pop("annotations")["virtaitech.com/cuda"]
        return dict(one)

    assert body("9.0") == body("10.0") == body("12") == body("13")


def test_files_can_be_created_one_by_one() -> None:
    """No object is in two of them, but for the variants of the server."""
    seen: dict[tuple[str, str], str] = {}
    for name in manifests.FILES:
        if name.startswith("deploy-server") and name != "deploy-server-cuda13.yaml":
            continue
        for one in yaml.safe_load_all((manifests.DEPLOY / name).read_text()):
            key = (one["kind"], one["metadata"]["name"])
            assert seen.setdefault(key, name) == name
    assert seen["Namespace", "orion-system"] == "deploy-controller.yaml"  # the first of the guide


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_says_what_it_is_and_what_it_needs(overlay: str) -> None:
    for one in objects(overlay):
        template = one.get("spec", {}).get("template")
        if template is None:
            continue
        labels = template["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "orion"
        if one["kind"] != "Job":
            assert labels["app.kubernetes.io/managed-by"] == "kustomize"
            assert labels["app.kubernetes.io/version"] == "0.1.0"
        selector = one["spec"].get("selector", {}).get("matchLabels", {})
        assert selector.items() <= labels.items()
        assert set(selector) <= {"app.kubernetes.io/name", "app.kubernetes.io/component"}
        for container in template["spec"]["containers"]:
            assert container["image"].partition(":")[2] not in ("", "latest")
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"])
            assert "memory" in resources["limits"]
            if one["kind"] != "Job":
                assert {"livenessProbe", "readinessProbe"} <= set(container)
            ports = {p["name"] for p in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                assert port is None or port in ports
                if "exec" in container.get(probe, {}):  # starts Python, on a node that may be busy
                    assert container[probe]["timeoutSeconds"] >= 15


def test_daemons_of_a_gpu_node_stay_on_it() -> None:
    for pod in pods("shm-memfd").values():
        assert pod["priorityClassName"] == "system-node-critical"
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod[
            "tolerations"
        ]


def test_nothing_comes_into_the_namespace_unasked() -> None:
    policies = {
        o["metadata"]["name"]: o["spec"]
        for o in objects("shm-memfd")
        if o["kind"] == "NetworkPolicy"
    }
    assert policies["orion-default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name, spec in policies.items():
        for rule in spec.get("ingress", []):
            assert rule["from"], name
            assert rule["ports"], name


# --- components


@cache
def composed(overlay: str, *components: str) -> tuple[dict[str, Any], ...]:
    """As docs/kubernetes.md applies a component to an overlay."""
    folder = manifests.DEPLOY / "overlays"
    text = manifests.compose(folder / overlay, [folder / one for one in components])
    return tuple(o for o in yaml.safe_load_all(text) if o)


def server_of(objects: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    (server,) = (
        o for o in objects if (o["kind"], o["metadata"]["name"]) == ("DaemonSet", "orion-server")
    )
    pod: dict[str, Any] = server["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("overlay", WITH_SERVER)
@pytest.mark.parametrize("components", [("rdma",), ("monitoring",), ("rdma", "monitoring")])
def test_components_fit_every_overlay(overlay: str, components: tuple[str, ...]) -> None:
    made = composed(overlay, *components)
    for one in made:
        if one["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
    names = [e["name"] for e in server_of(made)["containers"][0]["env"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("overlay", WITH_SERVER)
def test_rdma_adds_a_device_and_a_capability_and_no_folder(overlay: str) -> None:
    """A mounted /dev/infiniband could be seen, not opened: its devices have to come from a plugin."""
    (before,), (after,) = (
        server_of(made)["containers"] for made in (objects(overlay), composed(overlay, "rdma"))
    )
    capabilities = before["securityContext"]["capabilities"]["add"]
    assert after["securityContext"]["capabilities"]["add"] == [*capabilities, "IPC_LOCK"]
    assert after["volumeMounts"] == before["volumeMounts"]
    for kind in ("limits", "requests"):
        assert after["resources"][kind]["rdma/hca_shared_devices_a"] == "1"


def test_name_of_the_rdma_resource_is_changed_as_the_guide_says(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = (b for b in guide.split("```") if "rdma~1YOURS" in b)
    folder = manifests.DEPLOY.parents[1]
    text = block.partition("\n")[2].replace(
        "k8s/deploy", os.path.relpath(folder, tmp_path) + "/k8s/deploy"
    )
    (tmp_path / "kustomization.yaml").write_text(text)
    made = tuple(o for o in yaml.safe_load_all(manifests.render(tmp_path)) if o)
    resources = server_of(made)["containers"][0]["resources"]
    for kind in ("limits", "requests"):
        assert resources[kind]["rdma/YOURS"] == "1"
        assert "rdma/hca_shared_devices_a" not in resources[kind]


def test_program_over_rdma_breaks_restricted_by_root_and_its_capability_alone() -> None:
    client = pods("rdma/client")["client"]
    found = set(pod_security.restricted(client))
    assert found == {"runAsNonRoot", "runAsUser 0", "capability IPC_LOCK"}
    (container,) = client["containers"]
    assert container["resources"]["limits"]["rdma/hca_shared_devices_a"] == "1"
    assert environment(client)["ORION_TRANSPORT"] == "ucx"
    assert environment(client)["ORION_INSECURE_TCP"] == "1"


def test_program_of_the_pool_is_restricted_and_asks_for_no_vgpu_of_its_node() -> None:
    client = pods("tcp-pool/client")["client"]
    assert list(pod_security.restricted(client)) == []
    assert "virtaitech.com/gpu" not in client["containers"][0]["resources"]["limits"]
    controller = environment(server_of(objects("tcp-pool")))["ORION_CONTROLLER"]
    assert environment(client)["ORION_CONTROLLER"] == controller


@pytest.mark.parametrize("overlay", WITH_SERVER)
def test_monitoring_reads_every_metric_at_a_port_that_is_there(overlay: str) -> None:
    made = composed(overlay, "monitoring")
    ports = {
        o["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: {
            p["name"] for c in o["spec"]["template"]["spec"]["containers"] for p in c["ports"]
        }
        for o in made
        if o["kind"] in ("DaemonSet", "Deployment")
    }
    monitors = [o for o in made if o["kind"] == "PodMonitor"]
    assert {o["metadata"]["name"] for o in monitors} == {
        "orion-plugin",
        "orion-server",
        "orion-controller",
    }
    for monitor in monitors:
        component = monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in ports.get(component, {endpoint["port"]})
    assert "server" in ports
    assert environment(server_of(made))["ORION_METRICS_PORT"] == "0.0.0.0:9961"
    assert "ORION_METRICS_PORT" not in environment(server_of(objects(overlay)))  # off by default


def test_monitoring_brings_the_dashboard_for_grafanas_sidecar() -> None:
    (one,) = (o for o in composed("shm-memfd", "monitoring") if o["kind"] == "ConfigMap")
    assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert one["metadata"]["namespace"] == "orion-system"
    board = (ROOT / "packaging" / "grafana" / "orion.json").read_text()
    assert one["data"] == {"orion.json": board}
