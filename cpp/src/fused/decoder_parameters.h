// The parameters of a decoder's block as kernels take them.
#pragma once

#include <cstdint>
#include <vector>

#include "tempra/fused/decoder.h"

namespace tempra {

struct DecoderProduct {
    Tensor weight, bias;  // [out, in], [out] or undefined
};

// Matrices in the dtype of activations where there is a copy of them; weights that are used
// together and lie side by side are one product.
struct PreparedBlock {
    DecoderNorm attention_norm, feed_forward_norm;
    std::vector<DecoderProduct> qkv, output, up, down;
    Tensor cosines, sines;
};

// ShapeError or DtypeError, naming block `index`, where parameters do not fit one another.
void check_decoder_block(const DecoderBlock& block, size_t index, DType dtype);
[[nodiscard]] PreparedBlock prepared_block(const DecoderBlock& block, DType dtype);
// Where each parameter lies and its version: equal as long as prepared blocks are up to date.
[[nodiscard]] std::vector<std::uint64_t> parameter_states(const std::vector<DecoderBlock>& blocks);

}  // namespace tempra
