// cuBLASLt, found and loaded at the first matrix product. What is used of its interface is declared
// here: it is plain C and fixed within major version 13, and building then needs no header of it.
// Where `cublasLt.h` is at hand, cublas_lt.cpp compares every number and size with it. Where it is
// looked for is said in library_search.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

struct CUstream_st;

namespace tempra::cuda {

enum CublasLtStatus : int { kCublasOk = 0, kCublasNotSupported = 15 };
enum CublasLtType : int { kCublasFloat = 0, kCublasHalf = 2, kCublasBfloat16 = 14 };
enum CublasLtOperation : std::int32_t { kCublasAsStored = 0, kCublasTransposed = 1 };
inline constexpr int kCublasComputeFloat = 68;

enum CublasLtLayoutAttribute : int { kLayoutBatchCount = 5, kLayoutBatchStride = 6 };
enum CublasLtProductAttribute : int {
    kProductTransposeA = 3,
    kProductTransposeB = 4,
    kProductEpilogue = 7,
    kProductBiasPointer = 8,
    kProductAuxiliaryPointer = 11,
    kProductAuxiliaryStride = 12,
};
enum CublasLtPreferenceAttribute : int {
    kPreferenceWorkspaceBytes = 1,
    kPreferenceAlignmentA = 5,
    kPreferenceAlignmentB = 6,
    kPreferenceAlignmentC = 7,
    kPreferenceAlignmentD = 8,
};
// GELU is the tanh form; "auxiliary" keeps what GELU was taken of.
enum CublasLtEpilogue : std::uint32_t {
    kEpilogueNone = 1,
    kEpilogueBias = 4,
    kEpilogueGelu = 32,
    kEpilogueGeluBias = 36,
    kEpilogueGeluAuxiliary = 160,
    kEpilogueGeluAuxiliaryBias = 164,
    kEpilogueGeluDerivative = 192,
};

struct CublasLtAlgorithm {
    std::uint64_t data[8];
};
struct CublasLtChoice {
    CublasLtAlgorithm algorithm;
    std::size_t workspace_bytes;
    int status;
    float waves;
    int reserved[4];
};

// Handles are pointers to structs of the library's own.
struct CublasLt {
    int (*create)(void** handle);
    std::size_t (*version)();
    int (*layout_create)(void** layout, int type, std::uint64_t rows, std::uint64_t columns,
                         std::int64_t stride);
    int (*layout_destroy)(void* layout);
    int (*layout_set)(void* layout, int attribute, const void* value, std::size_t bytes);
    int (*product_create)(void** product, int compute_type, int scale_type);
    int (*product_destroy)(void* product);
    int (*product_set)(void* product, int attribute, const void* value, std::size_t bytes);
    int (*preference_create)(void** preference);
    int (*preference_destroy)(void* preference);
    int (*preference_set)(void* preference, int attribute, const void* value, std::size_t bytes);
    int (*choose)(void* handle, void* product, void* a, void* b, void* c, void* d, void* preference,
                  int wanted, CublasLtChoice* choices, int* found);
    int (*multiply)(void* handle, void* product, const void* alpha, const void* a, void* a_layout,
                    const void* b, void* b_layout, const void* beta, const void* c, void* c_layout,
                    void* d, void* d_layout, const CublasLtAlgorithm* algorithm, void* workspace,
                    std::size_t workspace_bytes, CUstream_st* stream);
};

// Null, with the reason in one line, when there is none that can be used. The answer is kept.
[[nodiscard]] const CublasLt* cublas_lt(std::string& reason);

}  // namespace tempra::cuda
