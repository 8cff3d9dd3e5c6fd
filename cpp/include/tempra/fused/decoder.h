// Running a decoder-only transformer token after token: blocks with their keys and values kept.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tempra/activation.h"
#include "tempra/tensor.h"

namespace tempra {

// x normalised, times weight, plus bias where there is one. `rms`: rms_norm, else layer_norm.
struct DecoderNorm {
    bool rms = true;
    Tensor weight, bias;  // [width]
    double epsilon = 1e-5;
};

// y = x + attention(norm(x)); y + feed_forward(norm(y)). Weights [out, in] and biases [out] as
// linear takes them; biases are empty or one per weight.
struct DecoderBlock {
    std::int64_t heads = 1, kv_heads = 1;
    DecoderNorm attention_norm, feed_forward_norm;
    std::vector<Tensor> qkv_weights, qkv_biases;  // q, k, v
    Tensor output_weight, output_bias;
    Tensor cosines, sines;  // as rotary takes them; undefined: q and k are not rotated
    // One: down(activation(up(x))). Two, gate and up: down(silu(gate(x)) * up(x)).
    std::vector<Tensor> up_weights, up_biases;
    Activation activation = Activation::none;
    Tensor down_weight, down_bias;
};

// What comes before and after the blocks: logits = norm(y) head_weight^T of the last token, where x
// is the token's row of the embedding, plus its position's where there is such a table.
struct DecoderEnds {
    Tensor token_embedding, position_embedding;  // [vocabulary, width], [positions, width]
    DecoderNorm norm;
    Tensor head_weight;  // [vocabulary, width]
};

struct PreparedDecoder;   // fused/decoder_parameters.h
struct DecoderWorkspace;  // fused/decoder_pass.h
namespace platform {
class PhasedLoop;
}

// One sequence in progress: blocks, and the keys and values of the tokens they have read. Used by
// one thread at a time.
class Decoder {
  public:
    // Room for `capacity` tokens, of the dtype activations will have. Parameters are shared where
    // kernels can read them as they lie; of biases that lie apart, and of what has to be cast, a
    // copy is kept, and made again when a parameter's version says that it was written. (Writing
    // through a NumPy or DLPack view does not change the version.) ShapeError or DtypeError where
    // they do not fit one another. Without ends only `run` works.
    Decoder(std::vector<DecoderBlock> blocks, std::int64_t capacity, DType dtype,
            DecoderEnds ends = {});
    ~Decoder();
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;

    // Reads further tokens: x [tokens, width] -> the last block's output, of the same shape and
    // dtype. Records nothing for autograd. ShapeError when the cache has no room for them.
    [[nodiscard]] Tensor run(const Tensor& x);
    // Reads further tokens [tokens], i32 -> logits [vocabulary] after the last: f32, or f64 for
    // that. ShapeError as `run`, and for a token or a position outside its table.
    [[nodiscard]] Tensor next_logits(const Tensor& tokens);

    [[nodiscard]] std::int64_t length() const { return length_; }
    [[nodiscard]] std::int64_t capacity() const { return capacity_; }
    // Forgets all tokens; the memory is kept.
    void clear() { length_ = 0; }

  private:
    void make_room(std::int64_t tokens);
    // The last block's output; fills `logits` [1, vocabulary] where it is defined.
    Tensor pass(const Tensor& x, const Tensor& logits);

    std::vector<DecoderBlock> blocks_;
    DecoderEnds ends_;
    std::unique_ptr<PreparedDecoder> prepared_;
    std::vector<Tensor> caches_;  // of each block [2 * kv_heads, capacity, head_dim]: keys, values
    std::unique_ptr<DecoderWorkspace> workspace_;
    std::unique_ptr<platform::PhasedLoop> loop_;
    std::int64_t capacity_;
    std::int64_t length_ = 0;
    DType dtype_;
};

}  // namespace tempra
