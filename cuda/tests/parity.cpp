// Every CUDA kernel against the CPU's on random data, on device 0.
//
//   parity LIBRARY [PART...] exits 0 when all agree, 1 on a mismatch, 77 without a usable device;
//   with
//                            parts, only cases whose names contain one of them are run
//   parity --rehearse        the CPU in the device's place: shows that the cases are sound
//   parity --rehearse-wrong  the same with wrong results: exits 0 when every case notices
#include <cstdio>
#include <string>

#include "parity_harness.h"

int main(int count, char** arguments) {
    using namespace tempra::cuda::parity;
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a table that is cut off ends where it was
    const std::string what = count >= 2 ? arguments[1] : "";
    if (what.empty()) {
        std::fprintf(stderr, "usage: parity LIBRARY | --rehearse | --rehearse-wrong [PART...]\n");
        return 2;
    }
    const bool rehearsal = what.rfind("--rehearse", 0) == 0;
    std::string reason;
    const auto backend =
        rehearsal ? rehearsal_backend(what == "--rehearse-wrong") : cuda_backend(what, reason);
    if (backend == nullptr) {
        std::printf("SKIPPED: nothing was compared: %s\n", reason.c_str());
        return 77;
    }
    std::printf("%s\n%-64s %-8s %9s\n", backend->name().c_str(), "case", "result", "worst");
    Suite suite(*backend, {arguments + 2, arguments + count});
    check_elementwise(suite);
    check_rows(suite);
    check_reductions(suite);
    check_integer_reductions(suite);
    check_random(suite);
    check_arena(suite);
    check_gemm(suite);
    check_attention(suite);
    check_indexing(suite);
    check_language(suite);
    std::printf("attention: %s\n", backend->attention_kernels().c_str());
    std::printf("%d cases, %d mismatches\n", suite.cases(), suite.failures());
    const int expected = what == "--rehearse-wrong" ? suite.cases() : 0;
    return suite.cases() > 0 && suite.failures() == expected ? 0 : 1;
}
