#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, offline: builds the CUDA library for that GPU, runs its tests and
# the parity suite against the CPU's kernels, and the memory and race checkers where there are any.
# Needs nvcc 12.8 or newer, CMake, Ninja and a C++20 compiler; the unit tests are run where GoogleTest is
# found.
#
#   benchmarks/run_on_gpu.sh [RESULTS]     RESULTS: a folder for logs (build/gpu-results)
#
# Exits with the first failure's status. Without a usable GPU it builds, says so and exits 77:
# nothing has been shown then. Timings are not measured yet.
set -euo pipefail
cd "$(dirname "$0")/.."
results=$(mkdir -p "${1:-build/gpu-results}" && cd "${1:-build/gpu-results}" && pwd)
build=build/gpu
started=$SECONDS

if ! command -v nvcc > "$results/nvcc.path"; then
    echo "run_on_gpu: no nvcc on PATH; the CUDA toolkit 12.8 or newer is needed" >&2
    exit 2
fi
nvcc --version | tail -n 2
if command -v nvidia-smi > "$results/smi.path"; then
    nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv |
        tee "$results/gpu.csv" || true
fi
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DTEMPRA_BUILD_CUDA=ON \
    -DTEMPRA_CUDA_BUILD_TESTS=ON -DTEMPRA_HIGHEST_ISA=baseline -DTEMPRA_WARNINGS_AS_ERRORS=ON \
    ${TEMPRA_CUDA_ARCHITECTURES:+-DTEMPRA_CUDA_ARCHITECTURES="$TEMPRA_CUDA_ARCHITECTURES"} \
    > "$results/configure.log" 2>&1 || { tail -n 20 "$results/configure.log"; exit 1; }
grep "tempra_cuda: " "$results/configure.log"
unit_tests=()
if grep -q "unit tests on" "$results/configure.log"; then
    unit_tests=(caching_allocator_test element_nest_test launch_shape_test library_test)
fi
cmake --build "$build" --target tempra_cuda parity "${unit_tests[@]}" > "$results/build.log" 2>&1 ||
    { tail -n 40 "$results/build.log"; exit 1; }
library=$PWD/$build/cuda/libtempra_cuda.so
echo "built in $((SECONDS - started)) s, $(stat -c %s "$library") bytes"

for test in "${unit_tests[@]}"; do
    "$build/cuda/tests/$test" > "$results/$test.log" || { tail -n 40 "$results/$test.log"; exit 1; }
    tail -n 1 "$results/$test.log"
done

parity=$build/cuda/tests/parity
"$parity" --rehearse > "$results/parity-rehearsal.txt" || {
    grep MISMATCH "$results/parity-rehearsal.txt"; exit 1; }
status=0
"$parity" "$library" > "$results/parity.txt" || status=$?
if ((status == 77)); then
    cat "$results/parity.txt"
    exit 77
fi
grep MISMATCH "$results/parity.txt" || true
tail -n 1 "$results/parity.txt"

if command -v compute-sanitizer > "$results/sanitizer.path"; then
    for tool in memcheck racecheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 9 "$parity" "$library" \
            > "$results/$tool.log" 2>&1 || status=$?
        echo "compute-sanitizer $tool: $(tail -n 1 "$results/$tool.log")"
    done
else
    echo "compute-sanitizer is not installed: memcheck and racecheck were not run"
fi
echo "finished in $((SECONDS - started)) s, status $status; logs in $results"
exit "$status"
