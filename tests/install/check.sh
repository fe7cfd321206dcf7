#!/usr/bin/env bash
# Installs a build into a folder of its own, moves it, and builds a stranger's program against it in every promised way.
#   check.sh BUILD_FOLDER CC [CFLAGS]
set -euo pipefail
build=$1 cc=$2 flags=${3-}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$build/install-check
rm -rf "$work"
cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/moved"
prefix=$work/moved
pc=$(find "$prefix" -name cxnet.pc)
lib=$(dirname "$(dirname "$pc")")
export PKG_CONFIG_PATH=$lib/pkgconfig LD_LIBRARY_PATH=$lib

# Each public header compiles alone, without the warnings of a careful user.
for header in "$prefix"/include/cxnet/*.h; do
    name=$(basename "$header")
    echo "#include <cxnet/$name>" | "$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$prefix/include" -fsyntax-only -x c - ||
        { echo "$name does not stand alone"; exit 1; }
done

# shellcheck disable=SC2046,SC2086
"$cc" $flags -std=c11 -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags cxnet) "$here/main.c" $(pkg-config --libs cxnet) -o "$work/by_pkg_config"
"$work/by_pkg_config"
# shellcheck disable=SC2046,SC2086
"$cc" $flags $(pkg-config --cflags cxnet) "$here/main.c" "$lib/libcxnet.a" \
    $(pkg-config --static --libs-only-l --libs-only-other cxnet | sed 's/-lcxnet//') -o "$work/by_pkg_config_static"
env -u LD_LIBRARY_PATH "$work/by_pkg_config_static"
[ "$(pkg-config --modversion cxnet)" = "$("$prefix/bin/cxnet" --version | cut -d' ' -f2)" ]

cmake -G Ninja -S "$here" -B "$work/build" -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="$flags" -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$work/build" >/dev/null
"$work/build/stranger_shared"
env -u LD_LIBRARY_PATH "$work/build/stranger_static"
# A negated command does not end a script, so these two say so themselves.
if ldd "$work/build/stranger_static" | grep -q libcxnet; then echo "the static program wants the shared library"; exit 1; fi
if grep -rq "$work/first" "$lib/cmake" "$pc"; then echo "the installed files name the folder they were installed to"; exit 1; fi
