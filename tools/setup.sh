#!/usr/bin/env bash
# Makes sure of the packages in tools/packages.txt, then configures and builds: tools/setup.sh [PRESET...], default release.
# Says what it does; does nothing that is already done. Needs Debian 12 or a relative, and root or sudo where a package is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

missing=()
mapfile -t wanted < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' -e 's/[[:space:]]*$//' tools/packages.txt)
if command -v dpkg-query >/dev/null; then
    for package in "${wanted[@]}"; do
        status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing+=("$package")
    done
else
    say "no dpkg here, so nothing is installed; what is needed (Debian's names): ${wanted[*]}"
fi

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -eq 0 ]; then
        as_root=(env)
    elif command -v sudo >/dev/null; then
        as_root=(sudo env)
    else
        fail "missing packages: ${missing[*]}; this is neither root nor has it sudo. As root, run: apt-get install ${missing[*]}"
    fi
    say "installing ${missing[*]}"
    mkdir -p build
    for step in "update" "install -y --no-install-recommends ${missing[*]}"; do
        # shellcheck disable=SC2086
        "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 $step >build/apt.log 2>&1 ||
            { tail -n 20 build/apt.log >&2; fail "apt-get $step failed; the whole output is in build/apt.log"; }
    done
fi

[ $# -gt 0 ] || set -- release
for preset in "$@"; do
    mkdir -p build
    log=build/$preset.log
    { cmake --preset "$preset" && cmake --build --preset "$preset"; } >"$log" 2>&1 ||
        { grep -E 'error|Error|FAILED' "$log" | head -n 20 >&2 || true; fail "building \"$preset\" failed; the whole output is in $log"; }
    say "build/$preset is up to date"
done
