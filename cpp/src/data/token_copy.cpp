#include "data/token_copy.h"

#include <cstring>

namespace tempra::data {

namespace {

// Inlined into functions for several instruction sets.
#define TEMPRA_INLINE [[gnu::always_inline]] inline

template <class Token>
TEMPRA_INLINE std::int32_t id_at(const std::byte* source, std::int64_t i) {
    Token token = 0;
    std::memcpy(&token, source + i * std::int64_t{sizeof(Token)}, sizeof(Token));
    return static_cast<std::int32_t>(token);
}

// Negative when an id is outside 0 .. largest. Bit arithmetic, because plain x86-64 has no vector
// maximum of these; an id beyond int32 is negative, and for others the difference cannot overflow.
TEMPRA_INLINE std::int32_t outside(std::int32_t id, std::int32_t largest) {
    return id | static_cast<std::int32_t>(static_cast<std::uint32_t>(largest) -
                                          static_cast<std::uint32_t>(id));
}

template <class Token>
TEMPRA_INLINE std::int32_t copy(const std::byte* __restrict source, std::int64_t count,
                                std::int32_t largest, std::int32_t* __restrict tokens) {
    std::int32_t bad = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        tokens[i] = id_at<Token>(source, i);
        bad |= outside(tokens[i], largest);
    }
    return bad;
}

template <class Token>
TEMPRA_INLINE std::int32_t copy_twice(const std::byte* __restrict source, std::int64_t count,
                                      std::int32_t largest, std::int32_t* __restrict tokens,
                                      std::int32_t* __restrict labels) {
    std::int32_t bad = outside(id_at<Token>(source, 0), largest);
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int32_t next = id_at<Token>(source, i + 1);
        bad |= outside(next, largest);
        tokens[i] = id_at<Token>(source, i);
        labels[i] = next;
    }
    return bad;
}

template <class Token>
std::int32_t copy_twice_portable(const std::byte* source, std::int64_t count, std::int32_t largest,
                                 std::int32_t* tokens, std::int32_t* labels) {
    return copy_twice<Token>(source, count, largest, tokens, labels);
}

#if defined(__x86_64__)
template <class Token>
__attribute__((target("avx2"))) std::int32_t copy_twice_avx2(const std::byte* source,
                                                             std::int64_t count,
                                                             std::int32_t largest,
                                                             std::int32_t* tokens,
                                                             std::int32_t* labels) {
    return copy_twice<Token>(source, count, largest, tokens, labels);
}
#endif

using CopyTwice = std::int32_t (*)(const std::byte*, std::int64_t, std::int32_t, std::int32_t*,
                                   std::int32_t*);

template <class Token>
CopyTwice select_copy_twice() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) return copy_twice_avx2<Token>;
#endif
    return copy_twice_portable<Token>;
}

}  // namespace

std::int32_t copy_tokens(const std::byte* source, DType dtype, std::int64_t count,
                         std::int32_t largest, std::int32_t* tokens) {
    return dtype == DType::u16 ? copy<std::uint16_t>(source, count, largest, tokens)
                               : copy<std::uint32_t>(source, count, largest, tokens);
}

std::int32_t copy_tokens_and_labels(const std::byte* source, DType dtype, std::int64_t count,
                                    std::int32_t largest, std::int32_t* tokens,
                                    std::int32_t* labels) {
    static const CopyTwice copy_u32 = select_copy_twice<std::uint32_t>();
    static const CopyTwice copy_u16 = select_copy_twice<std::uint16_t>();
    return (dtype == DType::u16 ? copy_u16 : copy_u32)(source, count, largest, tokens, labels);
}

}  // namespace tempra::data
