// Counted base class and the pointer that counts: one word, no separate control block.
#pragma once

#include <atomic>
#include <utility>

namespace tempra {

class RefCounted {
  public:
    RefCounted() = default;
    RefCounted(const RefCounted&) = delete;
    RefCounted& operator=(const RefCounted&) = delete;
    virtual ~RefCounted() = default;

    void retain() const noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
    void release_reference() const noexcept {
        if (count_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }
    [[nodiscard]] bool unique() const noexcept { return references() == 1; }
    [[nodiscard]] long references() const noexcept {
        return count_.load(std::memory_order_acquire);
    }

  private:
    mutable std::atomic<long> count_{0};
};

template <class T>
class IntrusivePtr {
  public:
    IntrusivePtr() = default;
    explicit IntrusivePtr(T* pointer) noexcept : pointer_(pointer) {
        if (pointer_ != nullptr) pointer_->retain();
    }
    IntrusivePtr(const IntrusivePtr& other) noexcept : IntrusivePtr(other.pointer_) {}
    IntrusivePtr(IntrusivePtr&& other) noexcept
        : pointer_(std::exchange(other.pointer_, nullptr)) {}
    template <class Derived>
    requires std::is_convertible_v<Derived*, T*> IntrusivePtr(const IntrusivePtr<Derived>& other)
    noexcept : IntrusivePtr(other.get()) {}
    ~IntrusivePtr() {
        if (pointer_ != nullptr) pointer_->release_reference();
    }
    IntrusivePtr& operator=(IntrusivePtr other) noexcept {
        std::swap(pointer_, other.pointer_);
        return *this;
    }

    [[nodiscard]] T* get() const noexcept { return pointer_; }
    T* operator->() const noexcept { return pointer_; }
    T& operator*() const noexcept { return *pointer_; }
    explicit operator bool() const noexcept { return pointer_ != nullptr; }
    friend bool operator==(const IntrusivePtr& a, const IntrusivePtr& b) noexcept {
        return a.pointer_ == b.pointer_;
    }

  private:
    T* pointer_ = nullptr;
};

template <class T, class... Arguments>
[[nodiscard]] IntrusivePtr<T> make_counted(Arguments&&... arguments) {
    return IntrusivePtr<T>(new T(std::forward<Arguments>(arguments)...));
}

}  // namespace tempra
