#!/bin/bash
# The first process of a node, in fresh cgroup, mount, UTS, IPC and PID namespaces. It gives the node
# copies of its own of the paths that kubelets, container runtimes and network agents take for granted,
# then starts containerd and the kubelet. What must outlive a reboot lies under $DISK.
#
# NODE ADDRESSES DISK BIN KUBECONFIG DNS IMAGES HAS_KUBELET come from the environment.
set -eu
hostname "$NODE"

# sysfs of this network namespace, cgroups of this cgroup namespace, a bpf file system of its own.
v1=$(grep -v '^0:' /proc/self/cgroup | cut -d: -f2)
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
if [ -z "$v1" ]; then
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	# Only a cgroup without processes may hand its controllers to those below.
	mkdir -p /sys/fs/cgroup/init
	for p in $(cat /sys/fs/cgroup/cgroup.procs); do echo "$p" >/sys/fs/cgroup/init/cgroup.procs || true; done
	for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control; done
else
	mount -t tmpfs tmpfs /sys/fs/cgroup
	for c in $v1; do
		mkdir "/sys/fs/cgroup/${c#name=}"
		mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/${c#name=}"
	done
	mkdir /sys/fs/cgroup/unified
	mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
fi

# This namespace's copies of the machine's mounts would keep other nodes' networks alive after their end.
umount -R -l /run/netns 2>/dev/null || true
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock
for p in /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/log /etc/cni /opt/cni; do
	mkdir -p "$p" "$DISK$p"
	mount --bind "$DISK$p" "$p"
done
mkdir -p /var/log/pods /var/log/containers /etc/cni/net.d /opt/cni/bin

# The kubelet insists on these values and would write them for the whole machine: it sees what it wants.
# And what boots again has another boot_id.
pretend() {
	mkdir -p "$DISK/sysctl"
	echo "$2" >"$DISK/sysctl/${1//\//.}"
	mount --bind "$DISK/sysctl/${1//\//.}" "/proc/sys/$1"
}
pretend vm/overcommit_memory 1
pretend vm/panic_on_oom 0
pretend kernel/panic 10
pretend kernel/panic_on_oops 1
pretend kernel/keys/root_maxkeys 1000000
pretend kernel/keys/root_maxbytes 25000000
pretend kernel/random/boot_id "$(cat /proc/sys/kernel/random/uuid)"

echo "nameserver 127.0.0.1" >"$DISK/resolv.conf" # so that pulling an image fails at once
mount --bind "$DISK/resolv.conf" /etc/resolv.conf
mount --make-rshared / # within this mount namespace
touch "$DISK/booted"

if [ "$HAS_KUBELET" = false ]; then exec sleep infinity; fi

cat >"$DISK/containerd.toml" <<Y
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/weirnet/workload:lab"
  restrict_oom_score_adj = true # without CAP_SYS_RESOURCE scores cannot be lowered
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
Y
# keep PROGRAM ARGUMENT... runs a program for good, as a service manager does: one that ends is started
# again. The kubelet ends by itself where it cannot start yet, above all while containerd has not gone
# through what it ran before; that takes long on a busy machine.
keep() {
	local log=/var/log/$(basename "$1").log status
	while true; do
		status=0
		"$@" >>"$log" 2>&1 || status=$?
		echo "$(date -u +%T) $(basename "$1") ended with status $status: $(tail -n 1 "$log")"
		sleep 1
	done
}

keep containerd -c "$DISK/containerd.toml" &
until ctr version >/dev/null 2>&1; do sleep 0.1; done
if [ ! -e "$DISK/images-are-in" ]; then
	for i in "$IMAGES"/*.tar; do
		[ ! -e "$i" ] || ctr -n k8s.io images import "$i" >/dev/null
	done
	touch "$DISK/images-are-in"
fi

cat >"$DISK/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
clusterDNS: [$DNS]
clusterDomain: cluster.local
resolvConf: $DISK/resolv.conf
failSwapOn: false
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 2s
volumePluginDir: /var/lib/kubelet/volumeplugins
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
Y
keep "$BIN/kubelet" --config "$DISK/kubelet.yaml" --kubeconfig "$KUBECONFIG" --hostname-override "$NODE" \
	--node-ip "$ADDRESSES" --cert-dir /var/lib/kubelet/pki &
wait
