#!/bin/sh
# Applies each mutant (or those named) to a copy of the tree and runs the test that must kill it.
#
#     tests/mutants/run.sh [NAME...]
#
# Fails if a mutant survives, no longer applies or no longer compiles. CARGO_TARGET_DIR may name a directory that
# already holds the compiled dependencies.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target/mutants}"
# Always the same place, so that cargo knows it again.
copy="$CARGO_TARGET_DIR/mutated"
# The copy may lie inside the repository, where git apply would pass over what is not the repository's own.
export GIT_CEILING_DIRECTORIES="$CARGO_TARGET_DIR"
rm -rf "$copy"
mkdir -p "$copy"
trap 'rm -rf "$copy"' EXIT
(cd "$root" && git ls-files -z | xargs -0 tar cf - --ignore-failed-read) | tar xf - -C "$copy"
cd "$copy"

[ $# -gt 0 ] || set -- $(cd "$root/tests/mutants" && ls *.patch | sed 's/\.patch$//')
failed=0
killed=0
for name; do
    patch="$root/tests/mutants/$name.patch"
    test=$(sed -n 's/^# killed by: //p' "$patch")
    # Another test binary than the simulation's.
    suite=$(sed -n 's/^# of the suite: //p' "$patch")
    suite=${suite:-sim}
    if ! git apply "$patch"; then
        echo "FAILED $name: no longer applies"
        failed=1
        continue
    fi
    if diff -rq "$root/src" "$copy/src" >/dev/null; then
        echo "FAILED $name: changes nothing"
        failed=1
    elif ! cargo test --quiet --test "$suite" --no-run >"$copy/.log" 2>&1; then
        echo "FAILED $name: does not compile"
        tail -20 "$copy/.log"
        failed=1
    elif ! cargo test --test "$suite" -- --list 2>/dev/null | grep -q "^$test.*: test$"; then
        echo "FAILED $name: no test $test"
        failed=1
    elif cargo test --quiet --test "$suite" "$test" >"$copy/.log" 2>&1; then
        echo "FAILED $name: survives $test"
        failed=1
    else
        echo "killed $name by $test"
        killed=$((killed + 1))
    fi
    git apply -R "$patch"
done
echo "$killed of $# mutants killed"
exit $failed
