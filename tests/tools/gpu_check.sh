#!/usr/bin/env bash
# tools/gpu_check.sh without a GPU: wrong words are refused, it says that there is none, and, with programs that pretend to be one, runs a part to its end.
set -euo pipefail
check=$1/tools/gpu_check.sh
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

fail() { echo "gpu_check test: $*" >&2; cat "$folder/out" >&2; exit 1; }
# expect CODE TEXT WORDS...: it ends with CODE and says TEXT.
expect() {
    local want=$1 text=$2 code=0
    shift 2
    "$check" "$@" >"$folder/out" 2>&1 || code=$?
    [ "$code" -eq "$want" ] || fail "$*: ended with $code, want $want"
    grep -qF -- "$text" "$folder/out" || fail "$*: does not say \"$text\""
}
pretend() { printf '#!/bin/sh\n%s\n' "$2" >"$folder/$1"; chmod +x "$folder/$1"; }

expect 64 'unknown part "toaster"' toaster
expect 64 'unknown flag "--fast"' --fast roof
expect 64 '--save wants a file' --save
expect 0 'compute-sanitizer' --list
export NVIDIA_SMI=$folder/smi CXNET_BUILD=$folder
expect 69 'no GPU here'
expect 69 'no GPU here' roof speed

pretend smi 'echo "Pretended GPU, 1.0"'
pretend cxnet 'echo "{\"commit\": \"abc\", \"memory_bytes\": 1, \"roof\": {\"fp32_gflops\": 5, \"bf16_gflops\": 0, \"read_gbs\": 3, \"copy_gbs\": 4}}"'
expect 0 'roof: ok' --save "$folder/gpu.tsv" roof
[ "$(grep -c 'Pretended GPU' "$folder/gpu.tsv")" -eq 4 ] || fail 'want four rows'
pretend cxnet 'echo "it broke" >&2; exit 70'
expect 1 'again: tools/gpu_check.sh roof' --save "$folder/gpu.tsv" roof
expect 1 'it broke' --save "$folder/gpu.tsv" roof
[ "$(wc -l <"$folder/gpu.tsv")" -eq 5 ] || fail 'a part that failed wrote rows'

# It builds where it is told to.
pretend cmake 'echo "$@" >>"$CXNET_BUILD/cmake.words"; touch "$CXNET_BUILD/libcxnet_cuda.so"'
PATH=$folder:$PATH expect 0 'build: ok' build
grep -q -- "--preset release -B $folder -DCX_CUDA=ON" "$folder/cmake.words" || fail 'configured another folder than CXNET_BUILD'
grep -q -- "--build $folder " "$folder/cmake.words" || fail 'built another folder than CXNET_BUILD'
