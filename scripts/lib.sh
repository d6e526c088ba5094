# Shared by the scripts of this folder; sourced, never run.
#
# Gives: the cache folder, timed steps, packages of another Debian suite without touching the machine's own apt, and a
# marker that tells whether a result is still the one its script would make.
# Everything lands in $cache (default: .cache beside the workspace, or $TWINSEAL_CACHE). `rm -r` it to begin anew.

shopt -s inherit_errexit
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(dirname "$scripts")
cache=${TWINSEAL_CACHE:-$workspace/.cache}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
export LC_ALL=C.UTF-8 TZ=UTC
umask 022

readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# fail SENTENCE...: says what is wrong and what to do, then ends the script with status 2.
fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# need COMMAND=PACKAGE...: ends the script, naming the one command to type, when a program is missing.
need() {
    local pair missing=()
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    ((${#missing[@]} == 0)) && return
    fail "programs are missing. Install them with: sudo apt-get install --no-install-recommends $(printf '%s\n' "${missing[@]}" | sort -u | xargs)"
}

# step TEXT COMMAND...: runs a command; prints the text and the seconds, and the command's output only if it failed.
step() {
    local text=$1 begin=${EPOCHREALTIME/./} log status=0
    shift
    log=$(mktemp)
    # A subshell with its own -e: inside `if` or `||` bash would ignore failures in the middle of a function.
    set +e
    (set -euo pipefail; "$@") >"$log" 2>&1
    status=$?
    set -e
    if ((status != 0)); then
        cat "$log" >&2
        rm -f "$log"
        fail "'$text' failed; what it printed is above. Nothing half-made was kept; run the script again after the cause is gone."
    fi
    rm -f "$log"
    printf '%s %s (%d.%d s)\n' "$(basename "$0" .sh):" "$text" $(((${EPOCHREALTIME/./} - begin) / 1000000)) \
        $(((${EPOCHREALTIME/./} - begin) / 100000 % 10))
}

# one_at_a_time: waits for another run that uses the same cache.
one_at_a_time() {
    exec 9>"$cache/lock"
    flock -n 9 || { echo "$(basename "$0"): another script is using $cache; waiting for it." >&2; flock 9; }
}

# recipe [FILE...]: a digest of the running script, this file and the files named, so that an edit makes the result anew.
recipe() { cat "$scripts/$(basename "$0")" "$scripts/lib.sh" "$@" | sha256sum | cut -d' ' -f1; }

# is_made FOLDER RECIPE / mark_made FOLDER RECIPE: the marker of a finished result.
is_made() { [[ -f $1/.made && $(<"$1/.made") == "$2" ]]; }
mark_made() { echo "$2" >"$1/.made"; }

# archive_of SUITE: prints the address of the archive from which the machine's apt takes SUITE, or nothing.
archive_of() { apt-get update --print-uris | sed -n "s|^'\\(.*\\)/dists/$1/InRelease'.*|\\1|p" | sort -u | sed -n 1p; }

# apt_sources SUITE...: prints one-line apt sources for suites of this machine's own Debian archive.
# The archive's address is the one that the machine's apt already uses; suites ending in -security come from its security archive.
apt_sources() {
    local own main security suite
    own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [[ -n $own && -r $KEYRING ]] || fail "this needs a Debian machine with the package debian-archive-keyring."
    main=$(archive_of "$own")
    security=$(archive_of "$own-security")
    [[ -n $main ]] || fail "this machine's apt sources name no archive for $own. Add one to /etc/apt/sources.list.d/ and run apt-get update."
    for suite in "$@"; do
        case $suite in
            *-security)
                [[ -n $security ]] || fail "this machine's apt sources name no security archive ($own-security). Add it to /etc/apt/sources.list.d/ and run apt-get update."
                echo "deb [signed-by=$KEYRING] $security $suite main" ;;
            *) echo "deb [signed-by=$KEYRING] $main $suite main" ;;
        esac
    done
}

# apt_private NAME SUITE...: makes the private apt NAME (lists, cache and sources of its own) in $cache/apt/NAME, for the machine's own
# architecture or that in $apt_architecture. Use it with: apt-get -c "$cache/apt/NAME/apt.conf" ...
apt_private() {
    local dir=$cache/apt/$1
    shift
    mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/debs"
    : >"$dir/status"
    apt_sources "$@" >"$dir/sources.list.new"
    cat >"$dir/apt.conf" <<CONF
Dir::State "$dir";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "2";
CONF
    if [[ ${apt_architecture:-} ]]; then
        printf 'APT::Architecture "%s";\nAPT::Architectures { "%s"; };\n' "$apt_architecture" "$apt_architecture" >>"$dir/apt.conf"
    fi
    if ! cmp -s "$dir/sources.list.new" "$dir/sources.list" || [[ ! -f $dir/updated ]]; then
        mv "$dir/sources.list.new" "$dir/sources.list"
        apt-get -q -c "$dir/apt.conf" update
        touch "$dir/updated"
    fi
    rm -f "$dir/sources.list.new"
}

# deb NAME PACKAGE: prints the path of PACKAGE's .deb from the private apt NAME, downloading it at most once.
# apt checks the download against the archive's signature; a cached file is checked against the sha256 recorded then.
deb() {
    local dir=$cache/apt/$1 package=$2 file
    if [[ -f $dir/debs/$package.sha256 ]]; then
        (cd "$dir/debs" && sha256sum --check --status "$package.sha256") && { echo "$dir/debs/$(cut -c67- "$dir/debs/$package.sha256")"; return; }
        echo "The cached .deb of $package is not the file that was downloaded; downloading it again." >&2
    fi
    rm -rf "$dir/debs/$package.new"
    mkdir "$dir/debs/$package.new"
    cd "$dir/debs/$package.new"
    apt-get -q -c "$dir/apt.conf" download "$package" >&2 || { apt-get -q -c "$dir/apt.conf" update >&2 && apt-get -q -c "$dir/apt.conf" download "$package" >&2; }
    file=$(echo ./*.deb)
    mv "$file" "$dir/debs/"
    cd "$dir/debs"
    rmdir "$package.new"
    sha256sum "${file#./}" >"$package.sha256"
    echo "$dir/debs/${file#./}"
}

# unpack NAME FOLDER PACKAGE...: extracts packages of the private apt NAME below FOLDER; nothing of them is run.
unpack() {
    local name=$1 into=$2 package path
    shift 2
    mkdir -p "$into"
    for package in "$@"; do
        path=$(deb "$name" "$package")
        dpkg-deb -x "$path" "$into"
    done
}

# without IN OUT PATTERN...: copies a tar without the members that match, owners and attributes kept. GNU tar's --delete loses
# its place in some archives ("Skipping to next header").
without() {
    local from=$1 to=$2
    shift 2
    mmtarfilter "${@/#/--path-exclude=}" <"$from" >"$to"
}
