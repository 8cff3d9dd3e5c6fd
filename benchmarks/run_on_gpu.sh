#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, offline: builds the CUDA library for that GPU, runs its tests and
# the parity suite against the CPU's kernels, the tests of tensors and training on the device, the
# memory and race checkers where there are any, and times a GPT-2 124M step's kernels, the whole step
# and PyTorch's. At most 10 minutes on 16 cores.
# Needs nvcc 12.8 or newer, CMake, Ninja, a C++20 compiler and libcublasLt.so.13 (in the toolkit, or
# from PyPI's nvidia-cublas beside PyTorch); the unit tests are run where GoogleTest is found, the
# peer where python3 has PyTorch, tensors and whole steps where it has pybind11, pytest and pydantic.
# Attention is by cuDNN where libcudnn.so.9 is found (PyTorch brings it) and the library was built
# with cuDNN's headers; both kinds of attention are compared with the CPU's and timed then.
# What python3 lacks of these is taken from build/gpu-wheels if that is there:
#   pip download -d build/gpu-wheels --only-binary=:all: --python-version 3.12 pydantic
#   pip download -d build/gpu-wheels --no-deps --only-binary=:all: --python-version 3.12 \
#       "nvidia-cudnn-frontend>=1.28.0,<1.29" nvidia-cuda-nvrtc
#
#   benchmarks/run_on_gpu.sh [RESULTS]     RESULTS: a folder for logs (build/gpu-results)
#
# Exits with the first failure's status. Without a usable GPU it builds, says so and exits 77:
# nothing has been shown then.
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
packages=$PWD/$build/packages
mkdir -p "$packages"
if [[ -d build/gpu-wheels ]]; then
    python3 -m pip install -q --no-index --find-links build/gpu-wheels --target "$packages" \
        --upgrade pydantic > "$results/pip.log" 2>&1 || { tail -n 3 "$results/pip.log"; exit 1; }
    for headers in nvidia-cudnn-frontend nvidia-cuda-nvrtc; do
        [[ -n $(compgen -G "build/gpu-wheels/${headers//-/_}-*.whl") ]] || continue
        python3 -m pip install -q --no-index --no-deps --find-links build/gpu-wheels \
            --target "$packages" --upgrade "$headers" > "$results/pip.log" 2>&1 ||
            { tail -n 3 "$results/pip.log"; exit 1; }
    done
fi
export PYTHONPATH=$packages${PYTHONPATH:+:$PYTHONPATH}
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DTEMPRA_BUILD_CUDA=ON \
    -DTEMPRA_CUDA_BUILD_TESTS=ON -DTEMPRA_HIGHEST_ISA=baseline -DTEMPRA_WARNINGS_AS_ERRORS=ON \
    ${TEMPRA_CUDA_ARCHITECTURES:+-DTEMPRA_CUDA_ARCHITECTURES="$TEMPRA_CUDA_ARCHITECTURES"} \
    > "$results/configure.log" 2>&1 || { tail -n 20 "$results/configure.log"; exit 1; }
grep "tempra_cuda: " "$results/configure.log"
# The Python module of the same build; the CPU's kernels are the baseline's, which compile fast.
python_core=()
if python3 -c "import pybind11, pytest, hypothesis, pydantic, numpy" 2> "$results/python.log"; then
    cmake -S . -B "$build" -DTEMPRA_BUILD_PYTHON=ON -DPython_EXECUTABLE="$(command -v python3)" \
        -Dpybind11_DIR="$(python3 -m pybind11 --cmakedir)" > "$results/configure-python.log" 2>&1 ||
        { tail -n 20 "$results/configure-python.log"; exit 1; }
    python_core=(_core)
else
    echo "$(tail -n 1 "$results/python.log"): tensors and whole steps are not run"
fi
unit_tests=()
if grep -q "unit tests on" "$results/configure.log"; then
    unit_tests=(attention_choice_test attention_shape_test caching_allocator_test
                cudnn_attention_shape_test element_nest_test gemm_plan_test graph_test
                launch_shape_test library_test)
fi
cmake --build "$build" --target tempra_cuda parity kernel_timings "${unit_tests[@]}" \
    "${python_core[@]}" > "$results/build.log" 2>&1 ||
    { tail -n 40 "$results/build.log"; exit 1; }
library=$PWD/$build/cuda/libtempra_cuda.so
echo "built in $((SECONDS - started)) s, $(stat -c %s "$library") bytes"

for test in "${unit_tests[@]}"; do
    "$build/cuda/tests/$test" > "$results/$test.log" || { tail -n 40 "$results/$test.log"; exit 1; }
    tail -n 1 "$results/$test.log"
done

# PyPI's cuBLAS and cuDNN, where they are not on the system's search path.
folder_of() {
    python3 -c 'import nvidia, os, sys
for folder in nvidia.__path__:
    library = os.path.join(folder, sys.argv[1])
    if os.path.exists(os.path.join(library, sys.argv[2])):
        print(library)
        break' "$@" 2> "$results/libraries.log" || true
}
cublas=$(folder_of cu13/lib libcublasLt.so.13)
cudnn=$(folder_of cudnn/lib libcudnn.so.9)
for folder in "$cublas" "$cudnn"; do
    [[ -z $folder ]] || LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}
echo "cuBLAS: ${cublas:-of the system}; cuDNN: ${cudnn:-of the system, if there is one}"

if [[ -x $build/cuda/tests/graph_test ]]; then  # above, on the emulated device
    TEMPRA_CUDA_GRAPH_LIBRARY=$library "$build/cuda/tests/graph_test" > "$results/graphs.log" || {
        tail -n 40 "$results/graphs.log"; exit 1; }
    tail -n 1 "$results/graphs.log"
fi

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
tail -n 2 "$results/parity.txt"

# Tensors and training: the Python tests, on the device instead of the emulated one.
if ((${#python_core[@]})); then
    cp -r python/tempra "$packages/"
    rm -f "$packages"/tempra/_core*.so  # of an editable install
    cp "$build"/bindings/_core*.so "$packages/tempra/"
    export TEMPRA_CUDA_LIBRARY=$library
    timeout 120 python3 -m pytest -q -p no:cacheprovider --device cuda -m "cuda or any_cuda" \
        tests/python/test_cuda.py tests/python/test_cuda_*.py > "$results/pytest.txt" 2>&1 || status=$?
    grep "^FAILED" "$results/pytest.txt" | head -n 20 || true
    tail -n 1 "$results/pytest.txt"
fi

# Timings before the checkers, so that an overrun costs the least.
timings=$build/cuda/tests/kernel_timings
timeout 75 "$timings" "$library" 16 > "$results/kernels.jsonl" || status=$?
grep '"attention ' "$results/kernels.jsonl" || true
tail -n 1 "$results/kernels.jsonl"
if ((${#python_core[@]})); then
    timeout 90 python3 benchmarks/gpu_step.py --sequences 16 > "$results/step.jsonl" \
        2> "$results/step.log" || { tail -n 5 "$results/step.log"; status=1; }
    cat "$results/step.jsonl"
    echo "and with attention by our own kernels:"
    TEMPRA_CUDA_ATTENTION=own timeout 90 python3 benchmarks/gpu_step.py --sequences 16 \
        > "$results/step-own.jsonl" 2> "$results/step-own.log" ||
        { tail -n 5 "$results/step-own.log"; status=1; }
    cat "$results/step-own.jsonl"
fi
if python3 -c "import torch" 2> "$results/torch.log"; then
    timeout 100 python3 benchmarks/gpu_peer.py --sequences 16 > "$results/torch.jsonl" \
        2> "$results/torch.log" || { tail -n 5 "$results/torch.log"; status=1; }
    cat "$results/torch.jsonl"
else
    echo "python3 has no PyTorch: nothing to compare with"
fi

# Kernels with shared memory or scratch memory, each kind once: all cases take too long.
if command -v compute-sanitizer > "$results/sanitizer.path"; then
    for tool in memcheck racecheck; do
        by_cudnn=()  # what surrounds it; races in it are not ours to find
        [[ $tool == racecheck ]] || by_cudnn=("by cuDNN bf16 packed" "by cuDNN bf16 rows")
        timeout 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$parity" "$library" \
            "attention bf16 packed" "attention_backward bf16 heads of 128" "attention f32 dropout" \
            "attention_backward f32 packed" "gemm bf16*bf16=bf16 72x136x200" "softmax f32/f32 17x5" \
            "layer_norm_backward bf16/f32 600x768" "linear_cross_entropy bf16/f32 chunks" \
            "sort f32" "cumulative_sum f32" "categorical bf16" "arg_reduce maximum f32" \
            "reduce sum middle" "embedding_backward bf16/bf16 3000x5 i64" "rotary bf16 part" \
            "gather f32" "scatter bf16" "adamw step 7" "attention bf16 decode, a group of eight" \
            "attention f32 decode, sequences" "attention_backward f16 packed" \
            "scatter adding f32 i64 few long" "${by_cudnn[@]}" \
            > "$results/$tool.log" 2>&1 || status=$?
        echo "compute-sanitizer $tool: $(tail -n 1 "$results/$tool.log")"
    done
else
    echo "compute-sanitizer is not installed: memcheck and racecheck were not run"
fi
echo "finished in $((SECONDS - started)) s, status $status; logs in $results"
exit "$status"
