#!/usr/bin/env bash
# Sets up, then runs cxnet from the current folder:
#   tools/run.sh [FLAGS]              the demo (cxnet demo)
#   tools/run.sh FILE.yaml [FLAGS]    an experiment (cxnet train FILE.yaml), e.g. --set optim.epochs=5
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

"$top/tools/setup.sh" release
case "${1-}" in
    ''|-*) exec "$top/build/release/cxnet" demo "$@" ;;
    *)     exec "$top/build/release/cxnet" train "$@" ;;
esac
