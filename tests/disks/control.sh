#!/bin/sh
# The control of the power cuts: builds an agent that does not sync, from a copy of the tree, and puts it to the same
# test, which must see it lose acknowledged usage. Needs what the test needs (root, loop devices).
#
#     tests/disks/control.sh
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
copy="$CARGO_TARGET_DIR/without-sync"
# The copy may lie inside the repository, where git apply would pass over what is not the repository's own.
export GIT_CEILING_DIRECTORIES="$CARGO_TARGET_DIR"
rm -rf "$copy"
mkdir -p "$copy"
trap 'rm -rf "$copy"' EXIT
(cd "$root" && git ls-files -z | xargs -0 tar cf - --ignore-failed-read) | tar xf - -C "$copy"
cd "$copy"
git apply "$root/tests/mutants/skip_fdatasync.patch"
cargo build --quiet
cp "$CARGO_TARGET_DIR/debug/meterd" "$copy/meterd-without-sync"
cd "$root"
survived=0
for fs in ext4 xfs; do
    if METERD_BIN="$copy/meterd-without-sync" cargo test --quiet --test disks "cuts::on_$fs" -- --nocapture >"$copy/said" 2>&1; then
        grep '^skipped' "$copy/said" || { cat "$copy/said"; echo "FAILED: an agent that does not sync survives power cuts on $fs"; survived=1; }
    elif ! grep ': LOST' "$copy/said"; then
        cat "$copy/said"
        echo "FAILED: it did not fail by losing anything"
        survived=1
    fi
done
exit $survived
