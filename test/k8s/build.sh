#!/usr/bin/env bash
# Builds from Go modules what a Kubernetes cluster is made of, and keeps it: a second run finds
# everything in the cache. The cache is $XDG_CACHE_HOME/weir-k8s (else ~/.cache/weir-k8s):
#   store/   every result under a name that holds a hash of what it was built from
#   bin/     links to those that the last run wanted
#
#   build.sh apiserver   etcd, kube-apiserver, kubectl: enough for tests of the API
#   build.sh cluster     the same, CoreDNS and, from the distribution, containerd and runc
#
# The last line is the folder of the links; everything else goes to stderr.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD

kubernetes=1.37.2
coredns=1.15.0

what=${1:-cluster}
case $what in apiserver | cluster) ;; *) echo "usage: build.sh apiserver|cluster" >&2; exit 2 ;; esac

cache=${XDG_CACHE_HOME:-$HOME/.cache}/weir-k8s
mkdir -p "$cache/store" "$cache/bin"
exec 9>"$cache/lock"
flock 9

export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath"
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

build_k8slab() {
	local libs=v0.${kubernetes#1.} mod version=k8s.io/component-base/version
	cp "$here/testdata/src/k8slab/main.go" .
	mod=$(go mod download -json "k8s.io/kubernetes@v$kubernetes" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
	# That module replaces its libraries by folders beside it; they are published under their own names.
	{
		printf 'module k8slab\n\ngo 1.26.0\n\ngodebug default=go1.26\n\nrequire k8s.io/kubernetes v%s\n' "$kubernetes"
		grep -oE '^\s+k8s.io/[a-z0-9-]+ =>' "$mod" | awk -v v="$libs" '{ print "replace " $1 " => " $1 " " v }'
	} >go.mod
	go mod tidy
	go build -ldflags "-s -w -X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=$(echo "$kubernetes" | cut -d. -f2)" -o "$1" .
}

build_coredns() {
	cp "$here/testdata/src/coredns/main.go" .
	printf 'module coredns\n\ngo 1.26.0\n\nrequire github.com/coredns/coredns v%s\n' "$coredns" >go.mod
	go mod tidy
	go build -ldflags "-s -w" -o "$1" .
}

# packages installs what runs containers, if root can. Nothing of it is started as a service.
packages() {
	local missing=() log policy=/usr/sbin/policy-rc.d
	command -v containerd >/dev/null || missing+=(containerd)
	command -v runc >/dev/null || missing+=(runc)
	command -v ip >/dev/null || missing+=(iproute2)
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

k8slab=$(stored k8slab "$here/testdata/src/k8slab/main.go" "$kubernetes")
built "$k8slab" build_k8slab
for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
	ln -sfn "$k8slab" "$cache/bin/$name"
done
if [ "$what" = cluster ]; then
	packages
	dns=$(stored coredns "$here/testdata/src/coredns/main.go" "$coredns")
	built "$dns" build_coredns
	ln -sfn "$dns" "$cache/bin/coredns"
fi
echo "$cache/bin"
