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

struct PreparedDecoder {
    std::vector<PreparedBlock> blocks;
    DecoderNorm norm;
    std::vector<DecoderProduct> head;
    std::vector<std::uint64_t> made_from;  // where each parameter lay, and its version
};

// ShapeError or DtypeError, naming block `index`, where parameters do not fit one another.
void check_decoder_block(const DecoderBlock& block, size_t index, DType dtype);
void check_decoder_ends(const DecoderEnds& ends, std::int64_t width, DType dtype);
// Looks at all parameters again when one was written or moved since `prepared` was made.
void prepare_decoder(const std::vector<DecoderBlock>& blocks, const DecoderEnds& ends, DType dtype,
                     PreparedDecoder& prepared);

}  // namespace tempra
