#!/bin/bash
# Builds weir's image without a registry and without a container engine: a docker-archive that
# "ctr images import", "docker load" and "podman load" take.
#
#   deploy/image/build.sh OUT.tar [NAME:TAG...]
#
# What goes in is listed in the file "content" beside this one. Weir's programs come from $BIN (default bin/,
# filled by "make build"), the tools, with the libraries they need, from this machine. What is missing here is fetched from Debian's
# archive where apt-get can (FETCH=0 leaves it out); nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 1 ] || { echo "usage: $0 OUT.tar [NAME:TAG...]" >&2; exit 2; }
out=$1; shift
[ $# -ge 1 ] || set -- "docker.io/weirnet/weir:$(git describe --tags --always --dirty 2>/dev/null || echo dev)"
bin=${BIN:-bin}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
root=$work/root

# listed KIND prints what the list says of that kind, without the kind.
listed() { awk -v kind="$1" '$1 == kind { print $2, $3 }' deploy/image/content; }

mkdir -p "$root"/{bin,usr/bin,etc,tmp,root,proc,sys,dev,run,var/run,opt/cni/bin}
chmod 1777 "$root/tmp"
printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

while read -r p; do
  [ -x "$bin/$p" ] || { echo "$0: $bin/$p is missing: run make build" >&2; exit 1; }
  cp -L "$bin/$p" "$root/usr/bin/$p"
done < <(listed program)
while read -r name program; do ln -s "$program" "$root/usr/bin/$name"; done < <(listed link)

# Packages of tools that are not on every machine, with the libraries that come with them.
fetch() {
  [ "${FETCH:-1}" = 1 ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
  mkdir -p "$work/debs" "$work/fetched"
  (cd "$work/debs" && for p in "$@"; do apt-get download -q "$p" >/dev/null 2>&1 || true; done
   for d in *.deb; do [ ! -e "$d" ] || dpkg -x "$d" "$work/fetched"; done)
}
searchpath=$PATH:/usr/sbin:/sbin
type -P bpftool >/dev/null || [ -x /usr/sbin/bpftool ] || ! fetch bpftool libbpf1 libelf1 libelf1t64 libcap2 || searchpath=$searchpath:$work/fetched/usr/sbin
export LD_LIBRARY_PATH=$work/fetched/usr/lib/$(uname -m)-linux-gnu

# add copies a program under its own name and the libraries it names.
add() {
  local path; path=$(PATH=$searchpath type -P "$1") || return 1
  cp -L "$path" "$root/usr/bin/$1"
  { ldd "$path" 2>/dev/null || true; } | grep -oE '/[^ ]+' | while read -r lib; do
    to=$root${lib#"$work/fetched"}
    mkdir -p "$(dirname "$to")"
    cp -Ln "$lib" "$to" 2>/dev/null || [ -e "$to" ]
  done
}
while read -r t package; do
  add "$t" || { echo "$0: this machine has no $t, which the image needs (package $package)" >&2; exit 1; }
done < <(listed tool)
missing=
while read -r t _; do add "$t" || missing="$missing $t"; done < <(listed extra)
[ -z "$missing" ] || echo "left out, not on this machine:$missing"
ln -s ../usr/bin/bash "$root/bin/bash"; ln -s bash "$root/bin/sh"; ln -s bash "$root/usr/bin/sh"
for dir in /lib/*-linux-gnu /usr/lib/*-linux-gnu; do # looked up by name, so ldd does not show them
  for lib in "$dir"/libnss_dns.so.2 "$dir"/libnss_files.so.2 "$dir"/libresolv.so.2; do
    [ ! -e "$lib" ] || { mkdir -p "$root$dir"; cp -Ln "$lib" "$root$lib" || true; }
  done
done

# The archive is the same for the same content: fixed order, owner and time.
tar -C "$root" --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 -cf "$work/layer.tar" .
layer=$(sha256sum "$work/layer.tar" | cut -c1-64)
arch=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
cat >"$work/config.json" <<EOF
{"architecture":"$arch","os":"linux","config":{"Env":["PATH=/usr/bin:/bin"],"Cmd":["weir-agent","--help"],"Labels":{"org.opencontainers.image.title":"weir"}},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
EOF
names=$(printf '"%s",' "$@")
echo "[{\"Config\":\"config.json\",\"Layers\":[\"layer.tar\"],\"RepoTags\":[${names%,}]}]" >"$work/manifest.json"
mkdir -p "$(dirname "$out")"
tar -C "$work" --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 -cf "$out" manifest.json config.json layer.tar
echo "$out: $(du -m "$out" | cut -f1) MiB, $*"
