#!/usr/bin/env bash
# The main job on real input, from nothing: pack a tree to a hub, forget everything, mount
# it by its URL, run a program out of it, and say what that fetched. Everything it makes lies
# in one temporary directory, which goes at the end, also after Ctrl-C. DEMO_TREE packs a
# directory of yours (with a bin/go or bin/bash in it) in place of a Debian root.
set -euo pipefail
cd "$(dirname "$0")/../.."

zosfs=${ZOSFS_BIN:-$PWD/bin/zosfs}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/zosfs-demo.XXXXXX")
export ZOSFS_CACHE=$work/cache ZOSFS_STATE=$work/state ZOSFS_CREDENTIALS=$work/credentials.json
unset ZOSFS_TOKEN ZOSFS_HUB
hub_pid=

cleanup() {
	status=$?
	trap - EXIT INT TERM
	"$zosfs" --quiet umount --lazy "$work/mnt" 2>/dev/null || true
	if pid=$("$zosfs" status --json 2>/dev/null | number pid); then kill "$pid" 2>/dev/null || true; fi
	if [ -n "$hub_pid" ]; then kill "$hub_pid" 2>/dev/null || true; wait "$hub_pid" 2>/dev/null || true; fi
	for dir in "$work/debian/proc" "$work/debian/sys" "$work/mnt"; do
		if mountpoint -q "$dir" 2>/dev/null; then umount -l "$dir" 2>/dev/null || fusermount3 -uz "$dir" 2>/dev/null || true; fi
	done
	rm -rf --one-file-system "$work"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

bold='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain" >&2; }
# quietly CMD... shows what a command says on stderr only when it fails.
quietly() { "$@" 2>"$work/said" || { status=$?; cat "$work/said" >&2; return "$status"; }; }
# number KEY prints the first number that KEY has in the JSON on stdin.
number() { grep -o "\"$1\":-\?[0-9]*" | head -n 1 | cut -d: -f2 | grep .; }
human() { numfmt --to=iec-i --suffix=B --format='%.1f' "$1" | sed 's/[A-Z]/ &/'; }
millis() { echo $(($(date +%s%N) / 1000000)); }

say "1. A real tree"
if [ -n "${DEMO_TREE:-}" ]; then
	what=$DEMO_TREE
	mkdir "$work/debian"
	cp -a "$DEMO_TREE/." "$work/debian/"
elif [ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null &&
	echo "debootstrap makes one, in about half a minute" >&2 &&
	debootstrap --variant=minbase bookworm "$work/debian" >"$work/debootstrap.log" 2>&1; then
	what="Debian 12 root (debootstrap, minbase)"
else
	what="Go toolchain"
	mkdir "$work/debian"
	cp -a "$(go env GOROOT)/." "$work/debian/"
fi
echo "$what: $(find "$work/debian" -mindepth 1 | wc -l) names, $(human "$(find "$work/debian" -type f -printf '%s %D:%i\n' | sort -u | awk '{ n += $1 } END { print n + 0 }')") in files"

say "2. A hub on loopback: one process, one directory"
"$zosfs" --json hub serve --data "$work/hub" --listen 127.0.0.1:0 >"$work/hub.json" 2>"$work/hub.log" &
hub_pid=$!
for _ in $(seq 100); do
	grep -q '"url"' "$work/hub.json" 2>/dev/null && break
	kill -0 "$hub_pid" 2>/dev/null || { cat "$work/hub.log" >&2; exit 1; }
	sleep 0.1
done
hub=$(sed -n 's/.*"url":"\([^"]*\)".*/\1/p' "$work/hub.json")
"$zosfs" hub token --data "$work/hub" --user acme | "$zosfs" login "$hub"

say "3. Pack it and publish it"
image=$hub/acme/debian:12
start=$(millis)
quietly "$zosfs" --json pack "$work/debian" "$image" >"$work/pack1.json"
pack_ms=$(($(millis) - start))
"$zosfs" inspect "$image"

say "4. Change about 1 % of the files and pack again"
mapfile -d '' files < <(find "$work/debian" -type f -size -1024k -print0 | sort -z)
changed=0
for ((i = 0; i < ${#files[@]}; i += 100)); do
	printf 'changed by the demo\n' >>"${files[i]}"
	changed=$((changed + 1))
done
start=$(millis)
quietly "$zosfs" --json pack "$work/debian" "$hub/acme/debian:12.1" >"$work/pack2.json"
pack2_ms=$(($(millis) - start))
sent1=$(number bytes_sent <"$work/pack1.json")
sent2=$(number bytes_sent <"$work/pack2.json")
echo "$changed files changed: first pack sent $(human "$sent1") in $pack_ms ms, second $(human "$sent2") in $pack2_ms ms"

say "5. Throw every local trace away, then mount by URL"
rm -rf --one-file-system "$ZOSFS_CACHE" "$work/debian"
mkdir "$work/mnt"
start=$(millis)
"$zosfs" mount "$image" "$work/mnt"
mount_ms=$(($(millis) - start))
ls "$work/mnt"
listed=$(find "$work/mnt" -mindepth 1 | wc -l)
echo "$listed names listed; nothing but the flist was fetched"

say "6. Run a program out of it"
start=$(millis)
if [ -x "$work/mnt/bin/bash" ]; then
	# shellcheck disable=SC2016 # the shell in the image expands it
	chroot "$work/mnt" /bin/bash -c '. /etc/os-release; echo "hello from $PRETTY_NAME"; perl -e "print qq(and from perl \$^V\n)"; dpkg --version | head -n 1'
else
	"$work/mnt/bin/go" version
fi
run_ms=$(($(millis) - start))

"$zosfs" --json status >"$work/status.json"
fetched=$(number bytes_fetched <"$work/status.json")
requests=$(number requests <"$work/status.json")
"$zosfs" --json inspect "$image" >"$work/inspect.json"
size=$(number size <"$work/inspect.json")
stored=$(number stored <"$work/inspect.json")
entries=$(number entries <"$work/inspect.json")

say "What it took"
row() { printf '%-28s %16s\n' "$1" "$2"; }
{
	row "names" "$entries"
	row "logical bytes" "$(human "$size")"
	row "bytes stored" "$(human "$stored")"
	row "pack and publish" "$pack_ms ms"
	row "second version, sent" "$(human "$sent2")"
	row "time to mount" "$mount_ms ms"
	row "time to run" "$run_ms ms"
	row "bytes fetched" "$(human "$fetched")"
	row "requests" "$requests"
	row "share of the image fetched" "$(awk "BEGIN { printf \"%.1f %%\", 100 * $fetched / $stored }")"
}
