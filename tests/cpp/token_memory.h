// Token streams in memory, for tests of what reads them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tempra/data/token_stream.h"

namespace tempra::data {

struct TokenMemory {
    std::vector<std::uint32_t> tokens;
    std::vector<std::uint64_t> bounds{0};
    std::vector<std::uint8_t> mask;
};

inline TokenShard shard_of(TokenMemory memory) {
    const auto owner = std::make_shared<TokenMemory>(std::move(memory));
    TokenShard shard;
    shard.name = "memory";
    shard.tokens = owner->tokens.data();
    shard.size = static_cast<std::int64_t>(owner->tokens.size());
    shard.bounds = owner->bounds.data();
    shard.documents = static_cast<std::int64_t>(owner->bounds.size()) - 1;
    shard.mask = owner->mask.empty() ? nullptr : owner->mask.data();
    shard.owner = owner;
    return shard;
}

// Documents of these lengths in shards of `documents_per_shard`; the tokens count up from 0, so
// that each tells its place.
inline std::shared_ptr<const TokenStream> counted_stream(const std::vector<std::int64_t>& lengths,
                                                         size_t documents_per_shard = 7) {
    std::vector<TokenShard> shards;
    TokenMemory memory;
    std::uint32_t next = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
        for (std::int64_t k = 0; k < lengths[i]; ++k) memory.tokens.push_back(next++);
        memory.bounds.push_back(memory.tokens.size());
        if ((i + 1) % documents_per_shard != 0 && i + 1 != lengths.size()) continue;
        shards.push_back(shard_of(std::move(memory)));
        memory = {};
    }
    return std::make_shared<TokenStream>(std::move(shards), std::int64_t{1} << 31);
}

}  // namespace tempra::data
