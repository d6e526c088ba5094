#!/usr/bin/env bash
# Makes the reference C programs of composefs runnable here, to compare our digests and images with theirs:
#
#   .cache/reference/bin/mkcomposefs   .cache/reference/bin/composefs-info
#
# They are packaged only in suites newer than the machine's, so the packages are unpacked, not installed, and wrappers run
# them with the C library of the same suite. Needs: a Debian amd64 machine; no root. Takes 10 s the first time, 0.1 s after.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Where composefs is, and everything its programs load.
readonly SUITE=forky
readonly PACKAGES="composefs libcomposefs1 libc6 libssl3t64 libzstd1 zlib1g"
readonly PROGRAMS="mkcomposefs composefs-info"

out=$cache/reference
work=$cache/reference.new

packages() {
    apt_private reference $SUITE
    unpack reference "$work/root" $PACKAGES
}

wrappers() {
    local program
    mkdir -p "$work/bin"
    for program in $PROGRAMS; do
        [[ -x $work/root/usr/bin/$program ]] || { echo "The package composefs of $SUITE has no program $program."; return 1; }
        cat >"$work/bin/$program" <<'WRAPPER'
#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")/root
libraries=$root/usr/lib/x86_64-linux-gnu
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$root/usr/bin/$(basename "$0")" "$@"
WRAPPER
        chmod +x "$work/bin/$program"
    done
}

# The programs must work, not only be there: seal a small folder, list what the image holds, and get the same digest twice.
try() {
    local tree=$work/try digest
    mkdir -p "$tree/in/folder"
    seq 1000 >"$tree/in/folder/numbers"
    digest=$("$work/bin/mkcomposefs" --print-digest --digest-store="$tree/objects" "$tree/in" "$tree/image")
    [[ $digest =~ ^[0-9a-f]{64}$ && $digest == "$("$work/bin/mkcomposefs" --print-digest-only "$tree/in")" ]]
    "$work/bin/composefs-info" ls "$tree/image" | grep -q /folder/numbers
    rm -rf "$tree"
}

finish() {
    mark_made "$work" "$made"
    rm -rf "$out"
    mv "$work" "$out"
}

made=$(recipe)
is_made "$out" "$made" && exit 0
need dpkg-deb=dpkg apt-get=apt sha256sum=coreutils
one_at_a_time
is_made "$out" "$made" && exit 0
rm -rf "$work"
mkdir "$work"
step "packages of $SUITE" packages
step "wrappers" wrappers
step "mkcomposefs and composefs-info run" try
finish
