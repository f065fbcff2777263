#!/usr/bin/env bash
# Shows by strace that whatever is compared syncs before it answers: one increment at a time, and between any answer and the
# one before a sync that succeeded. `prove.sh PROGRAM METERD [DIR]`: the built comparators, the agent, a directory on a disk.
set -euo pipefail
program=$1 meterd=$2 dir=${3:-.}
command -v strace >/dev/null || { echo "skipped: no strace here (apt-get install strace)"; exit 0; }
trace=$(mktemp)
trap 'rm -f "$trace"' EXIT

# NAME ANSWER: what the answers look like among the writes.
prove() {
    if [ "$1" = redis ] && ! command -v redis-server >/dev/null; then
        echo "$1: skipped, no redis-server here (apt-get install redis-server)"
        return
    fi
    strace -f -qq -e trace=fsync,fdatasync,sync_file_range,write,writev,sendto,sendmsg -o "$trace" \
        "$program" --dir "$dir" --meterd "$meterd" --prove "$1" >/dev/null
    # Through the environment, where a backslash stays one.
    NAME=$1 ANSWER=$2 awk '
        # A call that was interrupted by another thread ends on a line of its own.
        /(fdatasync|fsync)(\(| resumed).* = 0$/ { syncs++; since++ }
        $0 ~ ENVIRON["ANSWER"] { answers++; if (!since) early++; since = 0 }
        END {
            printf "%s: %d answers, %d syncs, %d answers without a sync before them\n", ENVIRON["NAME"], answers, syncs, early
            exit !(answers >= 10 && !early)
        }' "$trace"
}

for store in sqlite redb fjall; do
    prove "$store" 'write\(1, "durable [0-9]+'
done
prove redis '":[0-9]+\\r'
prove meterd '"[{]\\"ok\\":true'
