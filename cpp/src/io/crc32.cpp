// CRC-32. Reads each byte once, writes nothing, one thread; the result is an exact integer.
//
// Portable: slicing by 16 (Kounavis and Berry, "A systematic approach to building high performance
// software-based CRC generators", 2005): table t gives the effect of a byte t places further on.
// x86: folding with carry-less multiplication (Gopal et al., Intel, 2009): 64 bytes at a time are
// multiplied by x^512 modulo the polynomial and added to the next 64; what remains in the end, 16
// bytes with the same remainder as the whole message, goes through the tables. With AVX-512's wide
// carry-less multiplication the same is done 256 bytes at a time first.
#include "io/crc32.h"

#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "platform/files.h"
#include "tempra/io/crc32.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tempra::io {

namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::uint32_t kPolynomial = 0xEDB88320;

// Polynomials are stored reflected: bit 31 is the coefficient of x^0.
constexpr std::uint32_t kOne = 0x80000000;

constexpr std::uint32_t times_x(std::uint32_t value) {
    return (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
}

using Tables = std::array<std::array<std::uint32_t, 256>, 16>;

constexpr Tables make_tables() {
    Tables tables{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit) value = times_x(value);
        tables[0][byte] = value;
    }
    for (size_t t = 1; t < 16; ++t) {
        for (size_t byte = 0; byte < 256; ++byte) {
            const std::uint32_t before = tables[t - 1][byte];
            tables[t][byte] = (before >> 8) ^ tables[0][before & 0xFF];
        }
    }
    return tables;
}

constexpr Tables kTables = make_tables();

// a * b modulo the polynomial.
constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
    std::uint32_t product = 0;
    for (std::uint32_t bit = kOne; bit != 0; bit >>= 1) {
        if ((a & bit) != 0) product ^= b;
        b = times_x(b);
    }
    return product;
}

// x^(8 * bytes) modulo the polynomial, by repeated squaring.
constexpr std::uint32_t x_to_the_bytes(std::uint64_t bytes) {
    std::uint32_t power = kOne;
    std::uint32_t square = kOne >> 8;  // x^8
    for (; bytes != 0; bytes >>= 1) {
        if ((bytes & 1) != 0) power = multiply(power, square);
        square = multiply(square, square);
    }
    return power;
}

}  // namespace

std::uint32_t crc32_portable(std::uint32_t state, const unsigned char* data, std::int64_t size) {
    for (; size >= 16; size -= 16, data += 16) {
        std::uint32_t words[4];
        std::memcpy(words, data, 16);
        words[0] ^= state;
        state = 0;
        for (size_t word = 0; word < 4; ++word) {
            const size_t place = 15 - 4 * word;
            state ^= kTables[place][words[word] & 0xFF] ^
                     kTables[place - 1][(words[word] >> 8) & 0xFF] ^
                     kTables[place - 2][(words[word] >> 16) & 0xFF] ^
                     kTables[place - 3][words[word] >> 24];
        }
    }
    for (; size > 0; --size, ++data) state = (state >> 8) ^ kTables[0][(state ^ *data) & 0xFF];
    return state;
}

#if defined(__x86_64__)

namespace {

// Multipliers that move 64 bits forward by `bits`; the extra factor x makes up for the one that
// the reflected product lacks.
constexpr std::int64_t fold_constant(int bits) {
    std::uint32_t power = kOne;
    for (int i = 0; i < bits; ++i) power = times_x(power);
    return static_cast<std::int64_t>(power) << 1;
}

// Moves the 128 bits of `value` forward over the next block and adds that block.
__attribute__((target("pclmul,sse4.1"))) inline __m128i fold(__m128i value, __m128i constants,
                                                             __m128i next) {
    const __m128i low = _mm_clmulepi64_si128(value, constants, 0x00);
    const __m128i high = _mm_clmulepi64_si128(value, constants, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

__attribute__((target("pclmul,sse4.1"))) inline __m128i load(const unsigned char* data) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
}

// Folds four vectors and what follows them, 16 bytes at a time, into 16 bytes; then the tables.
__attribute__((target("pclmul,sse4.1"))) std::uint32_t finish_folding(const __m128i* lanes,
                                                                      const unsigned char* data,
                                                                      std::int64_t size) {
    constexpr std::int64_t kNear = fold_constant(128 + 32), kNearHigh = fold_constant(128 - 32);
    const __m128i by_128 = _mm_set_epi64x(kNearHigh, kNear);
    __m128i folded = lanes[0];
    for (int i = 1; i < 4; ++i) folded = fold(folded, by_128, lanes[i]);
    for (; size >= 16; data += 16, size -= 16) folded = fold(folded, by_128, load(data));

    unsigned char rest[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rest), folded);
    return crc32_portable(crc32_portable(0, rest, 16), data, size);
}

__attribute__((target("avx512f,vpclmulqdq,pclmul,sse4.1"))) inline __m512i fold_wide(
    __m512i value, __m512i constants, __m512i next) {
    constexpr int kExclusiveOr = 0x96;
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(value, constants, 0x00),
                                     _mm512_clmulepi64_epi128(value, constants, 0x11), next,
                                     kExclusiveOr);
}

__attribute__((target("avx512f,vpclmulqdq,pclmul,sse4.1"))) inline __m512i load_wide(
    const unsigned char* data) {
    return _mm512_loadu_si512(data);
}

}  // namespace

bool crc32_carryless_available() {
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

__attribute__((target("pclmul,sse4.1"))) std::uint32_t crc32_carryless(std::uint32_t state,
                                                                       const unsigned char* data,
                                                                       std::int64_t size) {
    if (size < 128) return crc32_portable(state, data, size);
    constexpr std::int64_t kFar = fold_constant(512 + 32), kFarHigh = fold_constant(512 - 32);
    const __m128i by_512 = _mm_set_epi64x(kFarHigh, kFar);

    __m128i lanes[4];
    for (int i = 0; i < 4; ++i) lanes[i] = load(data + 16 * i);
    lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128(static_cast<int>(state)));
    for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
        for (int i = 0; i < 4; ++i) lanes[i] = fold(lanes[i], by_512, load(data + 16 * i));
    }
    return finish_folding(lanes, data, size);
}

bool crc32_wide_available() {
    return crc32_carryless_available() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("vpclmulqdq");
}

__attribute__((target("avx512f,vpclmulqdq,pclmul,sse4.1"))) std::uint32_t crc32_wide(
    std::uint32_t state, const unsigned char* data, std::int64_t size) {
    if (size < 512) return crc32_carryless(state, data, size);
    constexpr std::int64_t kFar = fold_constant(2048 + 32), kFarHigh = fold_constant(2048 - 32);
    constexpr std::int64_t kNear = fold_constant(512 + 32), kNearHigh = fold_constant(512 - 32);
    const __m512i by_2048 = _mm512_set4_epi64(kFarHigh, kFar, kFarHigh, kFar);
    const __m512i by_512 = _mm512_set4_epi64(kNearHigh, kNear, kNearHigh, kNear);

    __m512i vectors[4];
    for (int i = 0; i < 4; ++i) vectors[i] = load_wide(data + 64 * i);
    vectors[0] = _mm512_xor_si512(
        vectors[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
    for (data += 256, size -= 256; size >= 256; data += 256, size -= 256) {
        for (int i = 0; i < 4; ++i) {
            vectors[i] = fold_wide(vectors[i], by_2048, load_wide(data + 64 * i));
        }
    }
    __m512i folded = vectors[0];
    for (int i = 1; i < 4; ++i) folded = fold_wide(folded, by_512, vectors[i]);
    for (; size >= 64; data += 64, size -= 64) folded = fold_wide(folded, by_512, load_wide(data));
    __m128i lanes[4];
    _mm512_storeu_si512(lanes, folded);
    return finish_folding(lanes, data, size);
}

#else

bool crc32_wide_available() { return false; }
std::uint32_t crc32_wide(std::uint32_t state, const unsigned char* data, std::int64_t size) {
    return crc32_portable(state, data, size);
}
bool crc32_carryless_available() { return false; }
std::uint32_t crc32_carryless(std::uint32_t state, const unsigned char* data, std::int64_t size) {
    return crc32_portable(state, data, size);
}

#endif

std::uint32_t crc32(const void* data, std::int64_t size, std::uint32_t previous) {
    static const auto compute = crc32_wide_available()        ? crc32_wide
                                : crc32_carryless_available() ? crc32_carryless
                                                              : crc32_portable;
    return ~compute(~previous, static_cast<const unsigned char*>(data), size);
}

std::uint32_t crc32_combine(std::uint32_t first, std::uint32_t second, std::int64_t second_size) {
    return multiply(first, x_to_the_bytes(static_cast<std::uint64_t>(second_size))) ^ second;
}

std::uint32_t crc32_file(const std::string& path) {
    constexpr std::int64_t kPiece = std::int64_t{1} << 20;
    std::vector<unsigned char> piece(kPiece);
    platform::File file = platform::File::open_for_reading(path);
    std::uint32_t checksum = 0;
    while (const std::int64_t count = file.read(piece.data(), kPiece)) {
        checksum = crc32(piece.data(), count, checksum);
    }
    return checksum;
}

}  // namespace tempra::io
