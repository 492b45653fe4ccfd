#!/bin/busybox sh
# The first process of the guest: prepares the file systems, inserts the modules, runs the suites, and
# ends the machine.
export PATH=/bin:/sbin HOME=/root TERM=dumb TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
ln -s /proc/self/fd /dev/fd

# The kernel starts the machine anew at that, and QEMU is told to end instead.
finish() { echo b >/proc/sysrq-trigger; sleep 60; }

while read -r m; do
	insmod "/modules/$m.ko" || { echo "weir: module $m cannot be inserted"; finish; }
done </modules/order
ip link set lo up

out= i=0
while [ -z "$out" ] && [ $i -lt 100 ]; do
	for p in /sys/class/virtio-ports/*; do
		[ -c "/dev/${p##*/}" ] && [ "$(cat "$p/name" 2>/dev/null)" = weir ] && out=/dev/${p##*/}
	done
	[ -n "$out" ] || sleep 0.05
	i=$((i + 1))
done
[ -n "$out" ] || { echo "weir: no port for output"; finish; }
sh /suites.sh </dev/null >"$out" 2>&1
finish
