#include "tempra/data/batch_array.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "platform/huge_pages.h"

namespace tempra::data {

namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = static_cast<size_t>(platform::kHugePageBytes);

}  // namespace

void BatchArray::Free::operator()(std::int32_t* memory) const noexcept { std::free(memory); }

void BatchArray::resize(size_t size) {
    if (size > capacity_) {
        const size_t needed = size * sizeof(std::int32_t);
        const size_t unit = needed >= kHugePage ? kHugePage : kCacheLine;
        const size_t bytes = (needed + unit - 1) / unit * unit;
        std::unique_ptr<std::int32_t, Free> grown(
            static_cast<std::int32_t*>(std::aligned_alloc(unit, bytes)));
        if (grown == nullptr) throw std::bad_alloc();
        if (unit == kHugePage) {
            platform::prefer_huge_pages(grown.get(), static_cast<std::int64_t>(bytes));
        }
        if (size_ > 0) std::memcpy(grown.get(), memory_.get(), size_ * sizeof(std::int32_t));
        memory_ = std::move(grown);
        capacity_ = bytes / sizeof(std::int32_t);
    }
    size_ = size;
}

}  // namespace tempra::data
