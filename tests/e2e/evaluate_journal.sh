#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: evaluate_journal.sh MLX_LM [KILLS] [FULL_DISKS] [LIMIT]
# LIMIT: questions of each of the 14 subjects in the runs that are killed; from about 40 on (seconds a run) most kills hit
# a run that has gone on from answers already in the journal.
# Interrupted evaluations go on: kill -9 at random moments under changing batch sizes, threads and load modes, Ctrl-C, a
# full disk, foreign and damaged journals. Final files must equal an undisturbed run's byte for byte.
. "$(dirname "$0")/lib.sh"
kills=${2:-6}
disks=${3:-1}
limit=${4:-5}
model=$checkpoints/qwen3/4bit-g64
needs_model "$model"
run() { # folder, options...
    folder=$1
    shift
    exec "$program" evaluate --model "$model" --tasks mmlu_pro --limit 5 --max-tokens 30 --num-shots 1 \
        --output-dir "$folder" "$@"
}
settings() { # number -> options
    case $(($1 % 6)) in
    0) echo "--batch-size 1 --threads 1" ;;
    1) echo "--batch-size 7 --threads 2" ;;
    2) echo "--batch-size 32 --threads 1 --no-use-mmap" ;;
    3) echo "--batch-size 1 --threads 2 --no-use-mmap" ;;
    4) echo "--batch-size 7 --threads 1" ;;
    5) echo "--batch-size 32 --threads 2" ;;
    esac
}

start=$(date +%s%N)
(run whole) >/dev/null 2>err || { fail "undisturbed"; cat err; exit 1; }
took=$((($(date +%s%N) - start) / 1000000))
[ "$(ls whole | wc -l)" = 18 ] || fail "result, report, run, journal, 14 samples"

# batch, threads and load mode don't show
for i in 1 2 3; do
    # shellcheck disable=SC2046
    (run plain$i $(settings $i)) >/dev/null 2>err || { fail "run $i"; cat err; }
    same_results plain$i "$(settings $i)"
done

# kill -9: as many as asked for, a folder for every six, each started with other settings; within the first third of
# what a run takes, so that six don't find it finished
undisturbed=whole
if [ "$limit" != 5 ]; then
    undisturbed=long
    start=$(date +%s%N)
    (run long --limit "$limit" --max-tokens 100) >/dev/null 2>err || { fail "undisturbed, $limit a subject"; cat err; }
    took=$((($(date +%s%N) - start) / 3000000))
fi
long() { # folder, options...
    folder=$1
    shift
    if [ $undisturbed = whole ]; then run "$folder" "$@"; else run "$folder" --limit "$limit" --max-tokens 100 "$@"; fi
}
done_kills=0 resumed=0 finished=0
while [ $done_kills -lt "$kills" ]; do
    folder=killed$((done_kills / 6))
    moment=$(awk -v s=$done_kills -v t=$took 'BEGIN { srand(s + 1); printf "%.3f", rand() * t / 1000 }')
    # shellcheck disable=SC2046
    (long $folder $(settings $done_kills)) >/dev/null 2>killed.err &
    pid=$!
    sleep "$moment"
    kill -9 $pid 2>/dev/null || finished=$((finished + 1))
    wait $pid 2>/dev/null
    ! grep -q 'questions are answered' killed.err || resumed=$((resumed + 1))
    done_kills=$((done_kills + 1))
    if [ $((done_kills % 6)) = 0 ] || [ $done_kills = "$kills" ]; then
        (long $folder) >/dev/null 2>err || { fail "after $done_kills kills"; cat err; }
        same_results $folder "after $done_kills kills" $undisturbed
    fi
done

# Ctrl-C keeps what was answered
: >out
(run stopped) >out 2>err &
pid=$!
tries=0
while [ $tries -lt 600 ] && ! tr '\r' '\n' <out | grep -q 'processing [1-9][0-9]/'; do
    sleep 0.02
    tries=$((tries + 1))
done
kill -TERM $pid
wait $pid
[ $? = 143 ] || fail "exit after a signal"
[ -z "$(find stopped -name '*_report.json')" ] || fail "no report of a part"

# other settings are refused with the difference named, and don't cost the answers
(run stopped --seed 7 --limit 4) >out 2>err
[ $? = 1 ] || fail "another limit is refused"
[ "$(wc -l <err)" = 1 ] || fail "one line"
grep -q 'limit is 5 there and 4 here' err || { fail "difference"; cat err; }
(run stopped --batch-size 2) >out 2>err || { fail "after a signal"; cat err; }
grep -q '^[1-9][0-9]* of 70 questions are answered in stopped/.*sqlite' err || { fail "went on"; cat err; }
same_results stopped "after a signal"

# a finished run gives way to another one; --restart asks again
(run stopped --limit 1) >out 2>err || fail "another run after a finished one"
grep -q 'questions are answered' err && fail "nothing to go on with"
cp -r whole again
(run again --restart) >out 2>err || fail "restart"
grep -q 'questions are answered' err && fail "restart asks again"
same_results again "restart"

# damaged and foreign files
cp -r whole damaged
dd if=/dev/urandom of="$(echo damaged/*_journal.sqlite)" bs=512 seek=4 count=40 conv=notrunc 2>/dev/null
(run damaged) >out 2>err
code=$?
if [ $code = 1 ]; then
    [ "$(wc -l <err)" = 1 ] || { fail "damaged: one line"; cat err; }
    grep -q -- '--restart' err || { fail "damaged: the way out"; cat err; }
else
    fail "damaged: exit $code"
fi
cp -r whole foreign
echo 'not a database, but a text that is long enough to be looked at' >"$(echo foreign/*_journal.sqlite)"
(run foreign) >out 2>err
[ $? = 1 ] || fail "foreign"
(run foreign --restart) >out 2>err || fail "foreign, restarted"
same_results foreign "foreign, restarted"

# a full disk: one line, exit 1; with room again the same command goes on
i=0
while [ $i -lt "$disks" ]; do
    mkdir full$i
    if mount_small full$i $((28 + 8 * i))k; then
        (run full$i) >out 2>err
        code=$?
        mount -o remount,size=4m "$mounted"
    else # without root: a limit on the size of files
        # shellcheck disable=SC3045
        (trap '' XFSZ; ulimit -f $((24 + 8 * i)); run full$i) >out 2>err
        code=$?
    fi
    [ $code = 1 ] || fail "full disk: exit $code"
    [ "$(grep -vc '^note:' err)" = 1 ] || { fail "full disk: one line"; cat err; }
    (run full$i) >out 2>err || { fail "room again"; cat err; }
    same_results full$i "full disk"
    unmount
    i=$((i + 1))
done
echo "$kills kills, $resumed of them of runs that had gone on, $finished after the end; $disks full disks"
finish
