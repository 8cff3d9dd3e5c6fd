// The memory of one column of a batch.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace tempra::data {

// Numbers whose memory is kept when there are fewer of them, and whose new ones are not set: a
// batch is written anyway, and setting them first would write it twice. Large ones lie in huge
// pages where the system has them.
class BatchArray {
  public:
    using value_type = std::int32_t;
    using const_iterator = const std::int32_t*;

    // Keeps what there is; what is added has any value.
    void resize(size_t size);

    [[nodiscard]] std::int32_t* data() noexcept { return memory_.get(); }
    [[nodiscard]] const std::int32_t* data() const noexcept { return memory_.get(); }
    [[nodiscard]] size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] std::int32_t operator[](size_t i) const noexcept { return memory_.get()[i]; }
    [[nodiscard]] const_iterator begin() const noexcept { return memory_.get(); }
    [[nodiscard]] const_iterator end() const noexcept { return memory_.get() + size_; }

    [[nodiscard]] friend bool operator==(const BatchArray& one,
                                         std::span<const std::int32_t> other) noexcept {
        return std::equal(one.begin(), one.end(), other.begin(), other.end());
    }
    [[nodiscard]] friend bool operator==(const BatchArray& one, const BatchArray& other) noexcept {
        return std::equal(one.begin(), one.end(), other.begin(), other.end());
    }

  private:
    struct Free {
        void operator()(std::int32_t* memory) const noexcept;
    };

    std::unique_ptr<std::int32_t, Free> memory_;
    size_t size_ = 0;
    size_t capacity_ = 0;
};

}  // namespace tempra::data
