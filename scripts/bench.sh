#!/usr/bin/env bash
# Measures speed, memory and bytes of an update, beside other update programs and in the same run.
#
#   scripts/bench.sh [--quick] [--rounds N] [install] [store] [patch]     (default: all)
#
#   install    an image of 256 MiB to a loop device: dd, openssl, RAUC, SWUpdate and twinseal, as ratios to dd
#   store      the same change to object stores of 1 GB and 10 GB: with more objects, and with larger ones
#   patch      one large file from its old version and whole: zstd, bspatch and twinseal
#   --quick    one round with an image of 64 MiB and stores a twentieth of the size: a test of the script, not a measurement
#   --rounds   measured rounds (5); one more before them warms up
#
# Prints tables and keeps them in .cache/bench/results.md. What cannot run is named there, with the command that failed.
# Needs: root (loop devices), scripts/deps.sh bench, what scripts/appliance.sh makes, and the programs twinseal and
# twinseal-bundle in target/shipped (or $TWINSEAL_PROGRAMS). `store` takes some minutes and wants 15 GB of free disk, of
# which it uses 3; everything but the results and the image is removed at the end. Status 1: our own programs could not be
# measured.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

readonly IMAGE_MEBIBYTES=256
# Any fixed numbers will do; the image must be the same bytes wherever it is made.
readonly IMAGE_UUID=7c0f2f3e-5d2b-4f0e-9a51-0a1b2c3d4e5f
readonly IMAGE_SECONDS=1780272000
# What --quick installs of it.
readonly QUICK_MEBIBYTES=64
# A slot is a little larger than what goes into it.
readonly SLOT_MORE_MEBIBYTES=4

bench=$cache/bench
work=$bench/work
appliance=$cache/appliance
programs=${TWINSEAL_PROGRAMS:-$workspace/target/shipped}
rounds=5
quick=
what=()

usage() { fail "$1 Usage: scripts/bench.sh [--quick] [--rounds N] [install] [store] [patch]"; }

while (($#)); do
    case $1 in
        --quick) quick=1 ;;
        --rounds)
            [[ ${2:-} =~ ^[1-9][0-9]?$ ]] || usage "--rounds takes a number from 1 to 99."
            rounds=$2
            shift ;;
        install | store | patch) what+=("$1") ;;
        *) usage "'$1' is not known." ;;
    esac
    shift
done
((${#what[@]})) || what=(install store patch)
[[ -z $quick ]] || rounds=1
does() { [[ " ${what[*]} " == *" $1 "* ]]; }

# The image: the appliance's root as an ext4 file system, the same bytes each time. mke2fs leaves the time at which it ran
# in each inode, so debugfs sets them all.
payload() {
    local dir=$1 tree=$1/tree image=$1/system.img used inode field
    export E2FSPROGS_FAKE_TIME=$IMAGE_SECONDS
    mkdir -p "$tree"
    tar -xpf "$appliance/v1/rootfs.tar" -C "$tree"
    mke2fs -q -t ext4 -b 4096 -m 0 -O '^has_journal,^resize_inode,^metadata_csum_seed,^orphan_file' -U "$IMAGE_UUID" \
        -E "hash_seed=$IMAGE_UUID,root_owner=0:0,lazy_itable_init=0,nodiscard" -d "$tree" "$image" "${IMAGE_MEBIBYTES}M"
    rm -rf "$tree"
    used=$(dumpe2fs -h "$image" | awk -F: '/^Inode count/ { all = $2 } /^Free inodes/ { free = $2 } END { print all - free }')
    for inode in 2 $(seq 11 "$used"); do
        for field in atime ctime mtime crtime; do
            printf 'sif <%d> %s @%d\nsif <%d> %s_extra 0\n' "$inode" $field $IMAGE_SECONDS "$inode" $field
        done
    done >"$dir/times"
    debugfs -w -f "$dir/times" "$image" >/dev/null
    rm "$dir/times"
    e2fsck -fn "$image"
}

# make_payload: the image in $bench/payload, made once.
make_payload() {
    local made new=$bench/payload.new
    made=$(cat "$appliance/SHA256SUMS" <(declare -f payload) <(echo "$IMAGE_MEBIBYTES $IMAGE_UUID $IMAGE_SECONDS") |
        sha256sum | cut -d' ' -f1)
    is_made "$bench/payload" "$made" && return
    rm -rf "$new"
    mkdir "$new"
    step "an ext4 image of $IMAGE_MEBIBYTES MiB" payload "$new"
    mark_made "$new" "$made"
    rm -rf "$bench/payload"
    mv "$new" "$bench/payload"
}

# attach FILE MEBIBYTES: makes a slot's file, every byte of it written, and prints its loop device.
attach() {
    head -c "${2}M" /dev/zero | tr '\0' '\245' >"$1"
    sync "$1"
    losetup --find --show "$1"
}

# Takes away what is ours by its place: mounts below the work folder, loop devices on our two files, and the folder.
clean_up() {
    local file place
    trap - EXIT
    findmnt --raw --noheadings --output TARGET | awk -v below="$work/" 'index($0, below) == 1' | while read -r place; do
        umount "$place"
    done
    for file in "$work"/slot-?; do
        [[ -e $file ]] || continue
        losetup --noheadings --output NAME --associated "$file" | while read -r place; do
            losetup --detach "$place"
        done
    done
    # Not on into something that is still mounted.
    rm -rf --one-file-system "$work"
}

need python3=python3 dd=coreutils openssl=openssl losetup=mount findmnt=util-linux mke2fs=e2fsprogs cpio=cpio
[[ -x /usr/bin/time ]] || fail "a program is missing. Install it with: sudo apt-get install --no-install-recommends time"
for program in twinseal twinseal-bundle; do
    [[ -x $programs/$program ]] ||
        fail "$programs/$program is missing. Build it with: cargo build --locked --profile shipped -p twinseal -p twinseal-bundle"
done
[[ -f $appliance/SHA256SUMS ]] || fail "the image's content is missing. Make it with: scripts/appliance.sh"
((EUID == 0)) || ! does install || fail "loop devices need root: sudo scripts/bench.sh, or without them: scripts/bench.sh store"
export PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$bench"
exec 8>"$bench/lock"
flock -n 8 || fail "another measurement is running in $bench. Wait for it: two at once would disturb each other."
trap clean_up EXIT
# In the background, so that a signal ends the measurement first and then the script, which cleans up after it.
measuring=
stop() {
    [[ -z $measuring ]] || { kill "$measuring" 2>/dev/null && wait "$measuring"; } || true
    exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM
rm -rf "$work"
mkdir "$work"

options=(--work "$work" --results "$bench/results.md" --programs "$programs" --appliance "$appliance" --rounds "$rounds")
if does install; then
    make_payload
    image=$work/system.img
    size=$IMAGE_MEBIBYTES
    [[ -z $quick ]] || size=$QUICK_MEBIBYTES
    head -c "${size}M" "$bench/payload/system.img" >"$image"
    sync "$image"
    # Nothing but a few bytes goes into the running set.
    running=$(attach "$work/slot-a" 1)
    target=$(attach "$work/slot-b" $((size + SLOT_MORE_MEBIBYTES)))
    options+=(--image "$image" --running "$running" --target "$target")
fi
if does store; then
    if [[ -z $quick ]]; then options+=(--store-megabytes 1000 10000); else options+=(--store-megabytes 50 500); fi
fi
! does patch || options+=(--patch)
python3 -B "$scripts/bench/main.py" "${options[@]}" &
measuring=$!
wait "$measuring"
