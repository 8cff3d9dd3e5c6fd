// One pass of a decoder over some tokens, as phases that threads share (platform/phased_loop.h).
//
//   qkv       norm(x) Wqkv^T                                     columns of the result
//   attention q and k turned; k, v into the cache; attention(q)  key heads and their queries
//   output    y = x + attention Wo^T                             columns
//   up        swiglu(up(norm(y))) or activation(up(norm(y)))     columns
//   down      y + hidden Wdown^T                                 columns
//   head      logits = norm(last row) Whead^T                    columns; once, after all blocks
//
// Few tokens wait for the weights from memory, so that time between two products counts: then a
// phase has a part for each thread, whose kernels run on it alone; norms are taken anew for each
// part, and nothing is left for one thread to do while others wait. More tokens, and devices other
// than the CPU, get phases of one part, whose kernels share their work out themselves. Each number
// is computed alike either way.
#pragma once

#include <cstdint>
#include <vector>

#include "dispatch/kernel_table.h"
#include "fused/decoder_parameters.h"
#include "platform/phased_loop.h"

namespace tempra {

// What a pass writes beside the cache; used again by passes over as many tokens.
struct DecoderWorkspace {
    std::int64_t tokens = 0, parts = 0;
    Tensor normed;  // of each part
    Tensor qkv, mixed, middle, up, hidden, x;
    Tensor positions, offsets_q, offsets_k;
};

class DecoderPass {
  public:
    // After `length` tokens in the caches, whose shape is that of `Decoder::caches_`; x and result
    // [tokens, width], logits [1, vocabulary] or undefined. The workspace fits the tokens and has
    // parts_for() parts.
    DecoderPass(const std::vector<DecoderBlock>& blocks, const PreparedDecoder& prepared,
                const std::vector<Tensor>& caches, const DecoderWorkspace& workspace,
                std::int64_t length, const Tensor& x, const Tensor& result, const Tensor& logits);

    // Into how many parts phases of a pass over so many tokens are cut.
    [[nodiscard]] static std::int64_t parts_for(const Device& device, std::int64_t tokens);

    void run(platform::PhasedLoop& loop) const;

  private:
    struct Range {
        std::int64_t begin, end;
    };
    using Product = std::vector<DecoderProduct>;

    void run_part(std::int64_t phase, std::int64_t part) const;
    void qkv(std::size_t block, std::int64_t part) const;
    void attention(std::size_t block, std::int64_t part) const;
    void output(std::size_t block, std::int64_t part) const;
    void up(std::size_t block, std::int64_t part) const;
    void down(std::size_t block, std::int64_t part) const;
    void head(std::int64_t part) const;

    [[nodiscard]] std::int64_t attention_parts(std::size_t block) const;
    [[nodiscard]] Range columns_of(std::int64_t part, std::int64_t columns) const;
    [[nodiscard]] TensorView x_of(std::size_t block) const;
    [[nodiscard]] TensorView qkv_of(std::size_t block) const;
    [[nodiscard]] TensorView mixed_of(std::size_t block) const;
    template <class Kernel, class... Arguments>
    void call(const char* operation, Kernel KernelTable::*kernel,
              const Arguments&... arguments) const;
    TensorView normalised(const DecoderNorm& norm, const TensorView& x, std::int64_t part) const;
    void multiply(const Product& product, const TensorView& a, Activation activation,
                  const TensorView& residual, const TensorView& out, Range columns) const;

    const std::vector<DecoderBlock>& blocks_;
    const PreparedDecoder& prepared_;
    const std::vector<Tensor>& caches_;
    const DecoderWorkspace& workspace_;
    std::int64_t length_;
    TensorView x_, result_, logits_;
    Device device_;
    DType dtype_;
};

}  // namespace tempra
