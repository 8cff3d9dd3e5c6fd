#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, offline: builds the CUDA library for that GPU, compares its kernels
# with the CPU's, trains the same runs on both, times kernels, decoding and whole steps beside
# PyTorch's, and runs the memory and race checkers. What matters most comes first, and all of it ends
# within DEADLINE seconds (570): every step has a limit, and what no time is left for is named.
#
#   benchmarks/run_on_gpu.sh [STEP...]     only these steps, and those that build: for what no time
#                                          was left for, say; what is built is not built again
#
# In $OUT if that is set: GPU.jsonl (a line for each result and each step), summary.txt and
# logs.tar.gz. Else the lines are added to benchmarks/results/GPU.jsonl, and the others are in
# build/gpu-results. What is there after a step stays, whatever happens later (timed_steps.sh).
# 0: every step passed or was skipped for something that is not installed; 1: not so; 77: no usable
# GPU, and nothing has been shown.
#
# Needs nvcc 12.8 or newer, CMake, Ninja, a C++20 compiler and libcublasLt.so.13 (in the toolkit, or
# PyPI's nvidia-cublas beside PyTorch); for whole steps pybind11 and pydantic, for the operations
# pytest and hypothesis, for the peer PyTorch. What python3 lacks is taken from build/gpu-wheels, if
# that is there (9 MB):
#   pip download -d build/gpu-wheels --no-deps --only-binary=:all: --python-version 3.12 \
#       --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
#       "nvidia-cudnn-frontend>=1.28.0,<1.29" pydantic==2.12.5 pydantic-core==2.41.5 \
#       annotated-types typing-inspection "cyclopts>=5" docstring-parser rich-rst
# Attention by cuDNN needs that frontend, cuDNN's headers and nvrtc.h to build, and to run
# libcudnn.so.9 and, for its engines that are compiled there, libnvrtc.so.13. PyTorch's own packages
# (nvidia-cudnn-cu13, nvidia-cuda-nvrtc) have all but the first, so nvrtc's 90 MB are not carried along.
# The summary says whether cuDNN was tested, and why not.
#
# TEMPRA_COMMIT: what the rows say of the sources where there is no .git.
# TEMPRA_GPU_STEPS: a file to be read before the steps are run, which may define them otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benchmarks/timed_steps.sh
source benchmarks/timed_steps.sh
# Where toolkits put them, if the shell does not look there.
command -v nvcc > /dev/null || export PATH=$PATH:/usr/local/cuda/bin

export BUILD=$PWD/build/gpu
export LIBRARY=$BUILD/cuda/libtempra_cuda.so
export PACKAGES=$BUILD/packages

ask_gpu() { timeout 20 nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits | head -n 1; }

describe_machine() {
    local driver commit megabytes
    gpu=$(ask_gpu name 2> /dev/null || true)
    driver=$(ask_gpu driver_version 2> /dev/null || true)
    commit=$(git rev-parse --short HEAD 2> /dev/null || echo "${TEMPRA_COMMIT:-unknown}")
    # What PyTorch keeps of 64 sequences of GPT-2 takes over 80 GB.
    megabytes=$(ask_gpu memory.total 2> /dev/null || true)
    export SEQUENCES=64
    if [[ $megabytes =~ ^[0-9]+$ ]] && ((megabytes < 100000)); then SEQUENCES=32; fi
    # Of every line of results.
    export ROW_FIELDS="\"gpu\": \"${gpu:-none}\", \"driver\": \"$driver\", \"commit\": \"$commit\", "
}

step_machine() {
    nvcc --version | tail -n 2
    nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total,clocks.max.sm --format=csv
    nproc
    python3 --version
    python3 -m pip list 2> /dev/null | grep -iE "^(torch|triton|numpy|nvidia-|pydantic|pybind11)" || true
}

step_packages() {
    mkdir -p "$PACKAGES"
    if [[ -d build/gpu-wheels ]]; then
        python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
            --target "$PACKAGES" build/gpu-wheels/*.whl
    fi
    python3 -c "import pybind11, numpy, pydantic, yaml"
}

# Warnings of another compiler than CI's are not to end this.
configure() {
    cmake -S . -B "$BUILD" -G Ninja -DCMAKE_BUILD_TYPE=Release -DTEMPRA_BUILD_CUDA=ON \
        -DTEMPRA_CUDA_BUILD_TESTS=ON -DTEMPRA_HIGHEST_ISA="${TEMPRA_HIGHEST_ISA:-baseline}" \
        -DTEMPRA_CUDA_EMULATED_LIBRARY="$LIBRARY" \
        ${TEMPRA_CUDA_ARCHITECTURES:+-DTEMPRA_CUDA_ARCHITECTURES="$TEMPRA_CUDA_ARCHITECTURES"} "$@"
}

build_all() { cmake --build "$BUILD" --target tempra_cuda parity kernel_timings -- -k 0; }

step_build() {
    local problem="" log=$BUILD/with-cudnn.log
    mkdir -p "$BUILD"
    rm -f "$BUILD/CMakeCache.txt"  # what was not found before may be there now
    if ! configure -DTEMPRA_CUDA_CUDNN=ON > "$log" 2>&1; then
        problem=$(grep -A 3 "attention by cuDNN needs" "$log" | tr -s '\n ' ' ' || true)
        problem=${problem:-it was not configured: $(tail -n 1 "$log")}
    elif ! build_all >> "$log" 2>&1; then
        problem="that failed: $(grep -m 1 -E '\berror *[:#]' "$log" || grep -m 1 FAILED "$log" ||
            tail -n 1 "$log")"
    fi
    cat "$log"
    if [[ -n $problem ]]; then
        remark cudnn "cuDNN was NOT tested: the library was built without it: $problem"
        configure -DTEMPRA_CUDA_CUDNN=OFF
        build_all
    fi
    echo "built in $SECONDS s, $(stat -c %s "$LIBRARY") bytes"
}

# The Python module of the same build, in a copy of the package.
step_module() {
    configure -DTEMPRA_BUILD_PYTHON=ON -DPython_EXECUTABLE="$(command -v python3)" \
        -Dpybind11_DIR="$(python3 -m pybind11 --cmakedir)"
    cmake --build "$BUILD" --target _core
    rm -rf "$PACKAGES/tempra"
    cp -r python/tempra "$PACKAGES/"
    rm -f "$PACKAGES"/tempra/_core*.so  # of an editable install
    cp "$BUILD"/bindings/_core*.so "$PACKAGES/tempra/"
    python3 -c "from tempra import cuda; print(*cuda.describe(), sep='\n')"
}

# 77 where there is no GPU that can be used.
step_device() { "$BUILD/cuda/tests/parity" "$LIBRARY" "fill with gaps"; }

compare_kernels() {  # compare_kernels TABLE [CASE...]: the suite, a row of how it went, what of cuDNN
    local table=$1 status=0 cases by found ended=false
    shift
    # A little less than the step, so that what there is gets counted.
    timeout --foreground $((STEP_SECONDS > 6 ? STEP_SECONDS - 3 : 3)) "$BUILD/cuda/tests/parity" "$LIBRARY" "$@" \
        > "$table" || status=$?
    cat "$table"
    grep MISMATCH "$table" | tail -n 8 || true
    cases=$(grep -cE " (ok|MISMATCH) " "$table" || true)
    by=$(grep -cE "by cuDNN.* (ok|MISMATCH) " "$table" || true)
    found=$(grep -m 1 "^attention: " "$table" || echo "the suite did not end")
    found=${found#attention: }
    ! grep -q "cases, " "$table" || ended=true
    printf '{"cases": %d, "mismatches": %d, "cudnn_cases": %d, "attention": "%s", "ended": %s}\n' \
        "$cases" "$(grep -c MISMATCH "$table" || true)" "$by" "${found//\"/}" "$ended" | keep_rows
    # Cases that cuDNN does not take are served by our own kernels, under the same names.
    if ((by)) && [[ $found != *"; 0 plans, "* ]]; then
        remark cudnn "cuDNN was tested: $by cases of parity, those included that it leaves; $found"
    elif [[ $(< "$REMARKS/cudnn") != *"built without"* ]]; then
        remark cudnn "cuDNN was NOT tested: $found"
    fi
    return "$status"
}
step_parity() { compare_kernels "$BUILD/parity.txt"; }
# Where the suite did not come to these cases, which are the last of attention's.
step_cudnn() {
    if grep -q "by cuDNN" "$BUILD/parity.txt" &&
        [[ $(tail -n 1 "$BUILD/parity.txt") != *"by cuDNN"* ]]; then
        echo "cuDNN's cases were a part of the suite"
        return
    fi
    compare_kernels "$BUILD/parity-cudnn.txt" "by cuDNN" || {
        if grep -q "^0 cases" "$BUILD/parity-cudnn.txt"; then
            cat "$REMARKS/cudnn"
            return 77
        fi
        return 1
    }
}

step_trace() { python3 benchmarks/gpu_trace.py | keep_rows; }
step_gpt2() { python3 benchmarks/gpu_step.py --sequences "$SEQUENCES" | keep_rows; }
step_gpt2_peer() { python3 benchmarks/gpu_peer.py --sequences "$SEQUENCES" | keep_rows; }
step_llama() { python3 benchmarks/gpu_step.py --config llama-1b | keep_rows; }
step_llama_peer() { python3 benchmarks/gpu_peer.py --config llama-1b | keep_rows; }
step_gpt2_own() {
    TEMPRA_CUDA_ATTENTION=own python3 benchmarks/gpu_step.py --sequences "$SEQUENCES" | keep_rows
}
step_kernels() { "$BUILD/cuda/tests/kernel_timings" "$LIBRARY" 64 | keep_rows; }
step_decode() { python3 benchmarks/gpu_decode.py | keep_rows; }

step_operations() {
    if ! python3 -c "import pytest, hypothesis"; then return 77; fi
    python3 -m pytest -q -p no:cacheprovider --device cuda -m "cuda or any_cuda" --tb=short \
        tests/python/test_cuda.py tests/python/test_cuda_*.py
}

step_graphs() {
    if ! cmake --build "$BUILD" --target help | grep "graph_test" > /dev/null; then
        echo "GoogleTest was not found"
        return 77
    fi
    cmake --build "$BUILD" --target graph_test
    TEMPRA_CUDA_GRAPH_LIBRARY=$LIBRARY "$BUILD/cuda/tests/graph_test"
}

# Kernels with shared memory or scratch memory, each kind once: all cases take too long.
check_with() {  # check_with TOOL [CASE...]
    local tool=$1
    shift
    if ! command -v compute-sanitizer; then
        echo "compute-sanitizer is not installed"
        return 77
    fi
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$BUILD/cuda/tests/parity" "$LIBRARY" \
        "attention bf16 packed" "attention_backward bf16 heads of 128" "attention f32 dropout" \
        "attention_backward f32 packed" "gemm bf16*bf16=bf16 72x136x200" "softmax f32/f32 17x5" \
        "layer_norm_backward bf16/f32 600x768" "linear_cross_entropy bf16/f32 chunks" \
        "sort f32" "cumulative_sum f32" "categorical bf16" "arg_reduce maximum f32" \
        "reduce sum middle" "embedding_backward bf16/bf16 3000x5 i64" "rotary bf16 part" \
        "gather f32" "scatter bf16" "adamw step 7" "attention bf16 decode, a group of eight" \
        "attention f32 decode, sequences" "attention_backward f16 packed" \
        "scatter adding f32 i64 few long" "$@"
}
step_memcheck() { check_with memcheck "by cuDNN bf16 packed" "by cuDNN bf16 rows"; }
step_racecheck() { check_with racecheck; }  # races within cuDNN are not ours to find

# PyPI's cuBLAS and cuDNN, where they are not on the system's search path; the packages carried along.
find_libraries() {
    local folder
    export PYTHONPATH=$PACKAGES:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}
    while read -r folder; do
        LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    done < <(python3 -c 'import nvidia, os
for folder in nvidia.__path__:
    for library in ("cu13/lib", "cudnn/lib"):
        if os.path.isdir(os.path.join(folder, library)):
            print(os.path.join(folder, library))' 2> /dev/null || true)
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-} TEMPRA_CUDA_LIBRARY=$LIBRARY
}

describe_machine
find_libraries
if [[ -n ${TEMPRA_GPU_STEPS:-} ]]; then
    # shellcheck disable=SC1090
    source "$TEMPRA_GPU_STEPS"
fi
slug=$(tr -c '[:alnum:]\n' '-' <<< "${gpu:-no-gpu}" | tr '[:upper:]' '[:lower:]')
begin_steps "${DEADLINE:-570}" "${OUT:-benchmarks/results}/$slug.jsonl" "${OUT:-build/gpu-results}" "$@"
if (($#)); then wanted+=(machine packages build module device); fi
remark cudnn "cuDNN was NOT tested: it did not come to that"

run_step machine 20
run_step packages 60
run_step build 280
run_step device 30 build
run_step parity 110 device
run_step cudnn 50 device
run_step module 120 build packages
run_step trace 60 device module
run_step gpt2 60 device module
run_step gpt2_peer 110 device module
run_step kernels 60 device
run_step decode 40 device module
run_step operations 90 device module
run_step memcheck 60 device
run_step racecheck 60 device
run_step llama 60 device module
run_step llama_peer 110 device module
run_step gpt2_own 60 device module
run_step graphs 40 device
status=0
end_steps || status=$?
case ${step_verdicts[device]:-} in
    "skipped: needs"* | "skipped: no time"*) ;;
    skipped:*) status=77 ;;
esac
exit "$status"
