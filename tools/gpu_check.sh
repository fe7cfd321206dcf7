#!/usr/bin/env bash
# Checks and measures the CUDA backend on a machine with an NVIDIA GPU, in under 8 minutes:
#   tools/gpu_check.sh [--save FILE]              every part
#   tools/gpu_check.sh [--save FILE] tests roof   some of them, in the order given
#   tools/gpu_check.sh --list                     the parts, with their limits in seconds
# The output of each part is build/gpu_check/PART.log; figures are appended to FILE (default: tools/bench/results/gpu.tsv; its columns: tools/bench/gpu.py).
# What starts beyond the 8 minutes is left out, and the command that makes up for it is printed.
# In the environment: CXNET_BUILD, the folder that it builds in and takes programs from (default: build/release); CXNET_PEERS, a Python that has PyTorch with
# CUDA (default: as tools/bench/gpu.py finds it).
# Ends with 0: all is well; 1: a part failed or had no time; 64: wrong words; 69: no GPU here, and what can be checked without one is sound.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

parts=(build tests sanitizer roof steps speed eager compile)
declare -A limit=([build]=150 [tests]=100 [sanitizer]=80 [roof]=15 [steps]=30 [speed]=60 [eager]=80 [compile]=200)
declare -A about=(
    [build]='the release preset with the CUDA backend'
    [tests]='the whole test suite, with every test of kernels, plans and trainings on cuda:0 too'
    [sanitizer]='compute-sanitizer (memcheck, racecheck, initcheck, synccheck) on the tests of kernels'
    [roof]='what the GPU can do at most'
    [steps]='bytes and FLOPs of each kind of step against its floor'
    [speed]='cxnet: training and inference at batch 16, 32, 256 and 224, 320 px; one film; the U-Net'
    [eager]='the same in PyTorch: eager, AMP in bfloat16, channels_last'
    [compile]='the same by torch.compile, the works that matter first'
)
total=470
smi=${NVIDIA_SMI:-nvidia-smi}
build=$(realpath -m "${CXNET_BUILD:-build/release}")
logs=build/gpu_check
save=tools/bench/results/gpu.tsv

say() { printf 'gpu_check: %s\n' "$*"; }
usage() { printf 'gpu_check: %s; want [--save FILE] [--list] [%s]\n' "$1" "${parts[*]}" >&2; exit 64; }

chosen=()
while [ $# -gt 0 ]; do
    case "$1" in
        --list) for p in "${parts[@]}"; do printf '%-10s %4d s  %s\n' "$p" "${limit[$p]}" "${about[$p]}"; done; exit 0 ;;
        --save) [ $# -gt 1 ] || usage '--save wants a file'; save=$2; shift ;;
        -*) usage "unknown flag \"$1\"" ;;
        *) [ -n "${limit[$1]-}" ] || usage "unknown part \"$1\""; chosen+=("$1") ;;
    esac
    shift
done
[ ${#chosen[@]} -gt 0 ] || chosen=("${parts[@]}")

# ---- without a GPU ----------------------------------------------------------------------------------------------------

bash -n tools/gpu_check.sh && python3 tools/bench/gpu.py --self-test || { say 'its own scripts are broken' >&2; exit 1; }
if ! card=$("$smi" --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) || [ -z "$card" ]; then
    say "no GPU here ($smi lists none); its scripts and words are sound"
    exit 69
fi

# ---- parts ------------------------------------------------------------------------------------------------------------

part_build() {
    cmake --preset release -B "$build" -DCX_CUDA=ON && cmake --build "$build" -j "$(nproc)" && [ -f "$build/libcxnet_cuda.so" ]
}

# Tests look for backends in one folder, where the emulated GPU lies.
with_gpu() { ln -sfn "$build/libcxnet_cuda.so" "$build/tests/plugins/libcxnet_cuda.so"; }

part_tests() {
    with_gpu
    CX_TEST_ISA=cuda ctest --test-dir "$build" --output-on-failure --no-tests=error -j "$(nproc)" || return 1
    ! grep 'skipped: cuda' "$build/Testing/Temporary/LastTest.log"          # a test that did not find the GPU proves nothing about it
}

# One after another they would take too long; each is slow on the host's side, so they share the GPU. Folds of convolutions, and everything without folds.
part_sanitizer() {
    local tool pids=() failed=0
    with_gpu
    for tool in memcheck racecheck initcheck synccheck; do
        (
            export CXNET_PLUGINS=$build/tests/plugins CX_TEST_ISA=cuda
            compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/tests/test_kernels" &&
                CX_TEST_OPS=conv2d compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/tests/test_folded_kernels"
        ) >"$logs/sanitizer-$tool.log" 2>&1 &
        pids+=($!)
    done
    for tool in memcheck racecheck initcheck synccheck; do
        wait "${pids[0]}" || { failed=1; echo "$tool failed; see $logs/sanitizer-$tool.log"; tail -n 15 "$logs/sanitizer-$tool.log"; }
        pids=("${pids[@]:1}")
    done
    return $failed
}

figures() { python3 tools/bench/gpu.py "$1" --cxnet "$build/cxnet" --card "$card" --seconds "$2" --save "$save" ${CXNET_PEERS:+--python "$CXNET_PEERS"}; }
part_roof() { figures roof "$1"; }
part_steps() { figures steps "$1"; }
part_speed() { figures speed "$1"; }
part_eager() { figures eager "$1"; }
part_compile() { figures compile "$1"; }

# In a session of its own, so that its end is the end of all that it started.
run_part() {
    local seconds=$2
    export -f "part_$1" with_gpu figures
    export build logs save card
    timeout --kill-after=5 "$seconds" bash -c "part_$1 $((seconds - 5))" >"$logs/$1.log" 2>&1
}

mkdir -p "$logs"
say "$card"
failed=()
for p in "${chosen[@]}"; do
    left=$((total - SECONDS))
    if [ "$left" -lt 10 ]; then
        say "$p: no time left"
        failed+=("$p")
        continue
    fi
    began=$SECONDS
    run_part "$p" $((left < limit[$p] ? left : limit[$p]))
    code=$?
    case $code in
        0) verdict='ok' ;;
        124 | 137) verdict="did not end in its time; see $logs/$p.log" ;;
        *) verdict="FAILED; see $logs/$p.log" ;;
    esac
    say "$p: $verdict ($((SECONDS - began)) s, $SECONDS s in all)"
    [ $code -eq 0 ] || { failed+=("$p"); tail -n 25 "$logs/$p.log"; }
    case "$p" in roof | steps | speed | eager | compile) [ $code -ne 0 ] || cat "$logs/$p.log" ;; esac
done
[ ${#failed[@]} -eq 0 ] || { say "again: tools/gpu_check.sh ${failed[*]}"; exit 1; }
