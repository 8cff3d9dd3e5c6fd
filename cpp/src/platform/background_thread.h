// A thread that works beside the caller's, and what becomes of it when the process forks.
#pragma once

#include <functional>
#include <memory>

namespace tempra::platform {

// How many forks lie between the first process and this one.
[[nodiscard]] int fork_count() noexcept;

// Runs `body` on a thread of its own, which takes no signals. A forked child has the object but not
// the thread: `exists` is false there, and nothing that the thread could have held locked at the
// moment of the fork may be touched again.
class BackgroundThread {
  public:
    explicit BackgroundThread(std::function<void()> body);
    // Waits for the end of the body, which the caller has to bring about.
    ~BackgroundThread();
    BackgroundThread(const BackgroundThread&) = delete;
    BackgroundThread& operator=(const BackgroundThread&) = delete;

    [[nodiscard]] bool exists() const noexcept { return forks_before_ == fork_count(); }

  private:
    struct Handle;
    std::unique_ptr<Handle> handle_;
    int forks_before_;
};

}  // namespace tempra::platform
