#!/usr/bin/env bash
# Builds from Go modules what a Kubernetes cluster is made of, and keeps it: a second run finds
# everything in the cache. The cache is $XDG_CACHE_HOME/weir-k8s (else ~/.cache/weir-k8s):
#   store/   every result under a name that holds a hash of what it was built from
#   bin/     links to those that the last run wanted
#
#   build.sh apiserver   etcd, kube-apiserver, kubectl: enough for tests of the API
#   build.sh cluster     the same, CoreDNS, the CNI plugin host-local and, from the distribution, containerd and runc
#   build.sh e2e         the same, and Kubernetes' own end-to-end tests with what runs in their pods
#
# The last line is the folder of the links; everything else goes to stderr.
set -euo pipefail
cd "$(dirname "$0")"
src=$PWD/testdata/src
kubernetes=$(sed -n 's#^\tk8s.io/kubernetes v##p' "$src/go.mod")

what=${1:-cluster}
case $what in apiserver | cluster | e2e) ;; *) echo "usage: build.sh apiserver|cluster|e2e" >&2; exit 2 ;; esac

cache=${XDG_CACHE_HOME:-$HOME/.cache}/weir-k8s
mkdir -p "$cache/store" "$cache/bin"
exec 9>"$cache/lock"
flock 9

rm -rf "$cache"/work.* "$cache"/store/*.new # what a run that was killed has left
export CGO_ENABLED=0
arch=$(go env GOARCH)

say() { echo "build.sh: $*" >&2; }

# stored NAME WHAT...: the place of a result that is made of these files and words
stored() {
	local name=$1 sum
	shift
	sum=$({ for x in "$@"; do if [ -f "$x" ]; then cat "$x"; else echo "$x"; fi; done; echo "$arch"; } | sha256sum)
	echo "$cache/store/$name-${sum:0:12}"
}

# built PATH COMMAND...: runs COMMAND PATH.new in a fresh folder and keeps the result, unless there is one
built() {
	local path=$1 work start=$SECONDS
	shift
	if [ -e "$path" ]; then return; fi
	say "building $(basename "$path")"
	work=$(mktemp -d "$cache/work.XXXXXX")
	if ! (cd "$work" && "$@" "$path.new" >log 2>&1); then
		tail -n 20 "$work/log" >&2
		rm -rf "$work" "$path.new"
		say "building $(basename "$path") failed"
		exit 1
	fi
	rm -rf "$work"
	mv "$path.new" "$path"
	say "built $(basename "$path") in $((SECONDS - start)) s"
}

# build_PROGRAM OUT; the flags are those of the other builds here, so that what these compile is not compiled again.
v=k8s.io/component-base/version.git
versioned="-s -w -X ${v}Version=v$kubernetes -X ${v}Major=1 -X ${v}Minor=$(echo "$kubernetes" | cut -d. -f2)"

build_k8slab() { compile "$versioned" "$1" ./k8slab; }

build_coredns() { compile "-s -w" "$1" ./coredns; }

build_host_local() { compile "-s -w" "$1" github.com/containernetworking/plugins/plugins/ipam/host-local; }

build_e2e_test() { go -C "$src" test -c -vet=off -buildvcs=false -ldflags "$versioned" -o "$1" k8s.io/kubernetes/test/e2e; }

build_ginkgo() { compile "-s -w" "$1" github.com/onsi/ginkgo/v2/ginkgo; }

build_agnhost() { compile "-s -w" "$1" k8s.io/kubernetes/test/images/agnhost; }

build_boom_server() { compile "-s -w" "$1" k8s.io/kubernetes/test/images/regression-issue-74839; }

compile() { go -C "$src" build -buildvcs=false -ldflags "$1" -o "$2" "$3"; }

# packages PROGRAM:PACKAGE... installs what the machine does not have, if root can. Nothing of it is started as a service.
packages() {
	local missing=() log policy=/usr/sbin/policy-rc.d p
	for p in "$@"; do command -v "${p%:*}" >/dev/null || missing+=("${p#*:}"); done
	if [ ${#missing[@]} -eq 0 ]; then return; fi
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		say "${missing[*]} must be installed, by root"
		exit 1
	fi
	say "installing ${missing[*]}"
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod +x $policy
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	log=$(apt-get update -q 2>&1 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" 2>&1) ||
		{ echo "$log" | tail -n 5 >&2; say "cannot install ${missing[*]}"; exit 1; }
}

# program NAME LINK...: builds a program unless it is there, and links it by these names
program() {
	local path
	path=$(stored "$1" "$src/go.mod" "$src/$1"/*.go)
	built "$path" "build_${1//[-.]/_}"
	touch "$path"
	shift
	for name in "$@"; do ln -sfn "$path" "$cache/bin/$name"; done
}

program k8slab etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl
if [ "$what" != apiserver ]; then
	packages containerd:containerd runc:runc ip:iproute2
	program coredns coredns
	program host-local host-local
fi
if [ "$what" = e2e ]; then
	packages nc.openbsd:netcat-openbsd dig:bind9-dnsutils host:bind9-host curl:curl wget:wget socat:socat conntrack:conntrack busybox:busybox-static
	program e2e.test e2e.test
	program ginkgo ginkgo
	program agnhost agnhost
	program boom-server boom-server
fi
find "$cache/store" -type f -mtime +30 -delete # versions that nobody wants any more
echo "$cache/bin"
