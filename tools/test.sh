#!/usr/bin/env bash
# Sets up, then runs all tests in both presets: release, and asan (AddressSanitizer and UndefinedBehaviorSanitizer).
# Flags go to ctest, e.g. tools/test.sh -R csv. Prints the whole output only of a preset that fails; names what was skipped.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

"$top/tools/setup.sh" release asan
cd "$top"
failed=0
for preset in release asan; do
    log=build/$preset-tests.log
    if ctest --preset "$preset" --no-tests=error -j "$(nproc)" "$@" >"$log" 2>&1; then
        echo "test: $preset:"
        grep -A 20 'tests passed' "$log" | sed '/^$/d'
    else
        cat "$log"
        failed=1
    fi
    grep -ho 'skipped: .*' "build/$preset/Testing/Temporary/LastTest.log" | sort | uniq -c | sed 's/^ *\([0-9]*\) /test: \1 x /' || true
done
exit $failed
