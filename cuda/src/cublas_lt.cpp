#include "cublas_lt.h"

#include <dlfcn.h>

#include "library_search.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#endif

namespace tempra::cuda {

#if __has_include(<cublasLt.h>)
static_assert(int{kCublasOk} == CUBLAS_STATUS_SUCCESS);
static_assert(int{kCublasNotSupported} == CUBLAS_STATUS_NOT_SUPPORTED);
static_assert(int{kCublasFloat} == CUDA_R_32F && int{kCublasHalf} == CUDA_R_16F &&
              int{kCublasBfloat16} == CUDA_R_16BF);
static_assert(std::int32_t{kCublasAsStored} == CUBLAS_OP_N);
static_assert(std::int32_t{kCublasTransposed} == CUBLAS_OP_T);
static_assert(kCublasComputeFloat == CUBLAS_COMPUTE_32F);
static_assert(int{kLayoutBatchCount} == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT);
static_assert(int{kLayoutBatchStride} == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
static_assert(int{kProductTransposeA} == CUBLASLT_MATMUL_DESC_TRANSA);
static_assert(int{kProductTransposeB} == CUBLASLT_MATMUL_DESC_TRANSB);
static_assert(int{kProductEpilogue} == CUBLASLT_MATMUL_DESC_EPILOGUE);
static_assert(int{kProductBiasPointer} == CUBLASLT_MATMUL_DESC_BIAS_POINTER);
static_assert(int{kProductAuxiliaryPointer} == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER);
static_assert(int{kProductAuxiliaryStride} == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD);
static_assert(int{kPreferenceWorkspaceBytes} == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
static_assert(int{kPreferenceAlignmentA} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
static_assert(int{kPreferenceAlignmentB} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
static_assert(int{kPreferenceAlignmentC} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
static_assert(int{kPreferenceAlignmentD} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(std::uint32_t{kEpilogueNone} == CUBLASLT_EPILOGUE_DEFAULT);
static_assert(std::uint32_t{kEpilogueBias} == CUBLASLT_EPILOGUE_BIAS);
static_assert(std::uint32_t{kEpilogueGelu} == CUBLASLT_EPILOGUE_GELU);
static_assert(std::uint32_t{kEpilogueGeluBias} == CUBLASLT_EPILOGUE_GELU_BIAS);
static_assert(std::uint32_t{kEpilogueGeluAuxiliary} == CUBLASLT_EPILOGUE_GELU_AUX);
static_assert(std::uint32_t{kEpilogueGeluAuxiliaryBias} == CUBLASLT_EPILOGUE_GELU_AUX_BIAS);
static_assert(std::uint32_t{kEpilogueGeluDerivative} == CUBLASLT_EPILOGUE_DGELU);
static_assert(sizeof(CublasLtAlgorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(CublasLtChoice) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(CublasLtChoice, workspace_bytes) ==
              offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
#endif

namespace {

constexpr const char* kName = "libcublasLt.so.13";

struct Loaded {
    CublasLt functions{};
    bool usable = false;
    std::string reason;
};

Loaded load() {
    Loaded loaded;
    std::string reason;
    void* const library = find_library(kName, "nvidia/cu13/lib", reason);
    const auto refuse = [&](const std::string& why) {
        loaded.reason = "matrix products need cuBLASLt of CUDA 13: " + why +
                        "; install nvidia-cublas, or put its folder on LD_LIBRARY_PATH";
        return loaded;
    };
    if (library == nullptr) return refuse(reason);
    bool complete = true;
    const auto take = [&](auto& function, const char* name) {
        void* const symbol = dlsym(library, name);
        complete = complete && symbol != nullptr;
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
    };
    CublasLt& f = loaded.functions;
    take(f.create, "cublasLtCreate");
    take(f.version, "cublasLtGetVersion");
    take(f.layout_create, "cublasLtMatrixLayoutCreate");
    take(f.layout_destroy, "cublasLtMatrixLayoutDestroy");
    take(f.layout_set, "cublasLtMatrixLayoutSetAttribute");
    take(f.product_create, "cublasLtMatmulDescCreate");
    take(f.product_destroy, "cublasLtMatmulDescDestroy");
    take(f.product_set, "cublasLtMatmulDescSetAttribute");
    take(f.preference_create, "cublasLtMatmulPreferenceCreate");
    take(f.preference_destroy, "cublasLtMatmulPreferenceDestroy");
    take(f.preference_set, "cublasLtMatmulPreferenceSetAttribute");
    take(f.choose, "cublasLtMatmulAlgoGetHeuristic");
    take(f.multiply, "cublasLtMatmul");
    if (!complete) return refuse("the one found lacks functions");
    const std::size_t version = f.version();  // 10000 * major + 100 * minor + patch
    if (version / 10000 != 13) {
        return refuse("the one found has version " + std::to_string(version));
    }
    loaded.usable = true;
    return loaded;
}

const Loaded& loaded() {
    static const Loaded once = load();
    return once;
}

}  // namespace

const CublasLt* cublas_lt(std::string& reason) {
    const Loaded& found = loaded();
    if (!found.usable) reason = found.reason;
    return found.usable ? &found.functions : nullptr;
}

}  // namespace tempra::cuda
