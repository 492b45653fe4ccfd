# Does what a node's first process does, in fresh namespaces, as far as a machine may forbid it. $1 is a folder
# on the file system that nodes' disks are on.
set -eu
mount --make-rprivate /
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/unified
mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
mount -t tmpfs tmpfs /run
mkdir "$1/lower" "$1/upper" "$1/work" "$1/merged"
mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/merged"
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link add cable0 type veth peer name cable1
ip link add bridge0 type bridge
ip link add vxlan0 type vxlan id 1 dstport 8472
