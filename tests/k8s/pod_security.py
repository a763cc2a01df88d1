# SPDX-License-Identifier: Apache-2.0
"""The Pod Security Standards as far as a pod of ours could break them: what a level forbids, by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

BASELINE_CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SECCOMP = {"RuntimeDefault", "Localhost"}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
}  # fmt: skip


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def baseline(pod: dict[str, Any]) -> Iterator[str]:
    """What the level "baseline" forbids in this pod spec."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    for volume in pod.get("volumes", []):
        if "hostPath" in volume:
            yield f"hostPath {volume['hostPath']['path']}"
    for holder in (pod, *containers(pod)):
        context = holder.get("securityContext", {})
        if context.get("seccompProfile", {}).get("type") == "Unconfined":
            yield "seccomp Unconfined"
        if context.get("appArmorProfile", {}).get("type") == "Unconfined":
            yield "AppArmor Unconfined"
        for sysctl in context.get("sysctls", []):
            if sysctl["name"] not in SAFE_SYSCTLS:
                yield f"sysctl {sysctl['name']}"
        if context.get("windowsOptions", {}).get("hostProcess"):
            yield "hostProcess"
        selinux = context.get("seLinuxOptions", {})
        if selinux.get("type", "") not in SELINUX_TYPES:
            yield f"SELinux type {selinux['type']}"
        if selinux.get("user") or selinux.get("role"):
            yield "SELinux user or role"
    for container in containers(pod):
        context = container.get("securityContext", {})
        if context.get("privileged"):
            yield "privileged"
        if context.get("procMount", "Default") != "Default":
            yield "procMount"
        for name in set(context.get("capabilities", {}).get("add", [])) - BASELINE_CAPABILITIES:
            yield f"capability {name}"
        for port in container.get("ports", []):
            if port.get("hostPort"):
                yield f"hostPort {port['hostPort']}"


def restricted(pod: dict[str, Any]) -> Iterator[str]:
    """What the level "restricted" forbids or misses, beyond baseline."""
    yield from baseline(pod)
    common = pod.get("securityContext", {})
    for volume in pod.get("volumes", []):
        for kind in set(volume) - {"name"} - RESTRICTED_VOLUMES:
            yield f"volume {kind}"
    for container in containers(pod):
        context = {**common, **container.get("securityContext", {})}
        if context.get("allowPrivilegeEscalation") is not False:
            yield "allowPrivilegeEscalation"
        if context.get("runAsNonRoot") is not True:
            yield "runAsNonRoot"
        if context.get("runAsUser") == 0:
            yield "runAsUser 0"
        if context.get("seccompProfile", {}).get("type") not in SECCOMP:
            yield "no seccomp profile"
        capabilities = context.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []):
            yield "capabilities not dropped"
        for name in set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"capability {name}"
