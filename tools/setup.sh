# SPDX-License-Identifier: MIT
# Sourced by ./check and ./quickstart: one-line failures, disk, Debian packages, quiet steps.
# shellcheck shell=sh disable=SC2015,SC2034,SC2086

SELF=${0##*/}
JOBS=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
LOGS=$PWD/build/logs
START=$(date +%s)
export LC_ALL=C

die() {
    printf '%s: %s\n' "$SELF" "$*" >&2
    exit 1
}

say() {
    printf '[%4ss] %s\n' "$(($(date +%s) - START))" "$*"
}

# need_space MEGABYTES FOLDER
need_space() {
    have=$(df -Pk "$2" 2>/dev/null | awk 'NR == 2 { print int($4 / 1024) }')
    [ -n "$have" ] || die "can't tell how much space is left in $2"
    [ "$have" -ge "$1" ] || die "not enough disk space in $2: $1 MB needed, $have MB free"
}

# The line of a log that says most: the first error, else the last line.
why() {
    line=$(grep -m1 -E '(^E: |error:|ERROR:|undefined reference|No space left|CMake Error)' "$1" 2>/dev/null)
    [ -n "$line" ] || line=$(grep -v '^[[:space:]]*$' "$1" 2>/dev/null | tail -n 1)
    printf '%s' "$line" | tr -s '[:space:]' ' ' | cut -c 1-300
}

# quiet NAME COMMAND...: its output goes to build/logs/NAME.log
quiet() {
    log=$LOGS/$1.log
    shift
    "$@" >"$log" 2>&1
}

# step "what" NAME COMMAND...: says what is done; dies with one line where it fails
step() {
    what=$1
    shift
    say "$what"
    quiet "$@" || die "$what failed: $(why "$log") (log: $log)"
}

# missing PACKAGE:TEST...: names the Debian packages that aren't there. TEST: a command, "pip", a file's path, or a pkg-config
# module after "pc-".
missing() {
    for pair; do
        case ${pair#*:} in
        pip) python3 -m pip --version >/dev/null 2>&1 || printf ' %s' "${pair%%:*}" ;;
        /*) [ -e "${pair#*:}" ] || printf ' %s' "${pair%%:*}" ;;
        pc-*) pkg-config --exists "${pair#*:pc-}" 2>/dev/null || printf ' %s' "${pair%%:*}" ;;
        *) command -v "${pair#*:}" >/dev/null 2>&1 || printf ' %s' "${pair%%:*}" ;;
        esac
    done
}

BUILD_PACKAGES="gcc:cc libc6-dev:cc make:make cmake:cmake pkg-config:pkg-config xz-utils:xz libjansson-dev:pc-jansson \
libpcre2-dev:pc-libpcre2-8 libutf8proc-dev:pc-libutf8proc libzstd-dev:pc-libzstd libsqlite3-dev:pc-sqlite3"
# taken along where others are installed anyway; the build does without
OPTIONAL_PACKAGES="libhwloc-dev:pc-hwloc"
CROSS_PACKAGES="gcc-aarch64-linux-gnu:aarch64-linux-gnu-gcc libc6-dev-arm64-cross:/usr/aarch64-linux-gnu/include/stdio.h \
qemu-user-static:qemu-aarch64-static"
PIP_PACKAGES="python3:python3 python3-pip:pip"

# need_packages PACKAGE:TEST...: installs what is missing, as root, from Debian
need_packages() {
    absent=$(missing "$@")
    [ -n "$absent" ] || return 0
    # shellcheck disable=SC2086
    absent="$absent$(missing $OPTIONAL_PACKAGES)"
    command -v apt-get >/dev/null 2>&1 || die "these are missing, install them first (Debian's names):$absent"
    [ "$(id -u)" = 0 ] || die "packages are missing and installing them needs root: sudo apt-get install$absent"
    need_space 1000 /var
    say "installing Debian packages:$absent"
    export DEBIAN_FRONTEND=noninteractive
    apt="apt-get -qq -o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 -o Dpkg::Use-Pty=0"
    quiet apt-update $apt -o APT::Update::Error-Mode=any update || die "can't reach the Debian mirror (no network?): $(why "$log") (log: $log)"
    # shellcheck disable=SC2086
    quiet apt-install $apt install -y --no-install-recommends $absent || die "apt-get install failed: $(why "$log") (log: $log)"
    absent=$(missing "$@")
    [ -z "$absent" ] || die "still missing after installation:$absent"
}

mkdir -p "$LOGS" 2>/dev/null && [ -w "$LOGS" ] || die "can't write to $LOGS"
