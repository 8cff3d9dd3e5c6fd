#include "fuzz/parse_input.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "tempra/data/abi_checkpoint.h"
#include "tempra/data/token_bin.h"
#include "tempra/data/token_bin_sidecar.h"
#include "tempra/data/token_block.h"
#include "tempra/error.h"
#include "tempra/io/safetensors.h"

namespace tempra::fuzz {

void require(bool condition) {
    if (!condition) std::abort();
}

void parse_safetensors(const std::uint8_t* data, std::size_t size) {
    const auto bytes = static_cast<std::int64_t>(size);
    try {
        const io::SafetensorsIndex index = io::parse_safetensors(data, bytes, "input");
        require(index.data_offset >= 8 && index.data_offset <= bytes);
        std::int64_t expected = 0;
        for (const io::SafetensorsEntry& entry : index.entries) {
            require(entry.begin == expected);
            require(entry.end - entry.begin == entry.shape.numel() * size_of(entry.dtype));
            expected = entry.end;
        }
        require(expected == bytes - index.data_offset);
    } catch (const FormatError&) {
    }
}

void parse_token_bin(const std::uint8_t* data, std::size_t size) {
    for (const DType dtype : {DType::u32, DType::u16, DType::f32}) {
        try {
            const std::int64_t count =
                data::parse_token_bin(static_cast<std::int64_t>(size), dtype, "input");
            std::vector<std::uint32_t> tokens(static_cast<std::size_t>(count));
            data::copy_tokens(data, dtype, 0, tokens);
            if (count > 0) {
                std::uint32_t last = 0;
                data::copy_tokens(data, dtype, count - 1, {&last, 1});
                require(last == tokens.back());
            }
        } catch (const FormatError&) {
        } catch (const DtypeError&) {
            require(dtype == DType::f32);
        }
    }
}

void parse_token_bin_sidecar(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    try {
        const data::TokenBinSidecar found = data::parse_token_bin_sidecar(text, "input");
        require(found.dtype == DType::u32 || found.dtype == DType::u16);
        require(found.tokens >= 0 && found.documents >= 0);
        require(found.vocabulary_size >= 1 && found.vocabulary_size <= std::int64_t{1} << 32);
    } catch (const FormatError&) {
    }
}

void parse_token_block(const std::uint8_t* data, std::size_t size) {
    try {
        const data::TokenBlock block =
            data::parse_token_block(std::as_bytes(std::span(data, size)), "input");
        // What was read, written again, is what was read; flags and what follows it are not kept.
        const auto text_bytes = static_cast<std::int64_t>(block.text.size());
        const std::int64_t bytes = data::token_block_bytes(block.token_count, text_bytes, "input");
        require(bytes <= static_cast<std::int64_t>(size));
        std::vector<std::uint32_t> tokens(static_cast<std::size_t>(block.token_count));
        block.read(0, tokens);
        std::vector<std::byte> written(data::kTokenBlockHeaderBytes);
        data::write_token_block_header(written.data(), block.token_count, text_bytes);
        const auto body = std::as_bytes(std::span(tokens));
        written.insert(written.end(), body.begin(), body.end());
        const auto text = std::as_bytes(std::span(block.text));
        written.insert(written.end(), text.begin(), text.end());
        std::memset(written.data() + 6, 0, 2);
        for (std::size_t i = 0; i < written.size(); ++i) {
            require(i == 6 || i == 7 || written[i] == std::byte{data[i]});
        }
    } catch (const FormatError&) {
    }
    // Counts from the input, as a writer might be given them.
    if (size < 16) return;
    std::int64_t counts[2];
    std::memcpy(counts, data, sizeof counts);
    constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
    try {
        (void)data::token_block_bytes(counts[0] & kMost, counts[1] & kMost, "input");
        data::TokenBlock().read(counts[0], {});
    } catch (const FormatError&) {
    } catch (const ShapeError&) {
    }
}

void parse_abi_checkpoint(const std::uint8_t* data, std::size_t size) {
    try {
        const data::AbiCheckpoint found =
            data::parse_abi_checkpoint(std::as_bytes(std::span(data, size)), "input");
        const std::size_t arrays =
            found.weights.size() + found.first_moments.size() + found.second_moments.size();
        require(size == arrays + (found.has_moments ? 46U : 26U));
        require(found.weights.empty() || found.weights.data() + found.weights.size() <=
                                             reinterpret_cast<const std::byte*>(data) + size);
    } catch (const FormatError&) {
    }
}

}  // namespace tempra::fuzz
