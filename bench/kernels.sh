#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: bench/kernels.sh [-g GROUP] [-s SECONDS] [-l LEVEL]
# Every row of kernels.def that this processor can run, on one thread, as one markdown table: GB/s and GFLOP/s beside what
# memory, a copy in cache, and products whose operands come from caches reach. Each row uses its own level's instructions
# whatever the machine has beyond; LM_CPU=LEVEL shows the rows up to a level. Needs cmocka beside what the build needs; about 3 minutes.
set -u
cd "$(dirname "$0")/.." || exit 1
. tools/setup.sh
# shellcheck disable=SC2034
SELF=bench/kernels.sh
GROUP=64
SECONDS_EACH=0.05
USAGE="usage: bench/kernels.sh [-g GROUP] [-s SECONDS] [-l LEVEL]"
while [ $# -gt 1 ]; do
    case $1 in
    -g) GROUP=$2 && shift 2 ;;
    -s) SECONDS_EACH=$2 && shift 2 ;;
    -l) export LM_CPU="$2" && shift 2 ;;
    *) die "$USAGE" ;;
    esac
done
[ $# = 0 ] || die "$USAGE"
B=build/release
step "building" kernels-build sh -c "cmake --preset release -DLM_TESTS=ON && cmake --build --preset release -j $JOBS --target bench_linear check_kernels"
$B/tests/kernel/bench_linear --all -g "$GROUP" -s "$SECONDS_EACH" || die "bench_linear failed"
$B/tests/kernel/check_kernels --table || die "check_kernels failed"
