#include "platform/background_thread.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <system_error>
#include <thread>

#include "tempra/error.h"

namespace tempra::platform {

namespace {

std::atomic<int> forks{0};

[[maybe_unused]] const int fork_handler_status =
    pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

struct BackgroundThread::Handle {
    std::thread thread;
    Handle* next = nullptr;
};

namespace {

// Handles of threads that stayed behind in a parent process: joining or detaching one would touch
// memory that the C library has taken back. Kept reachable for leak checkers.
std::atomic<void*> lost_handles{nullptr};

}  // namespace

int fork_count() noexcept { return forks.load(std::memory_order_relaxed); }

BackgroundThread::BackgroundThread(std::function<void()> body)
    : handle_(std::make_unique<Handle>()), forks_before_(fork_count()) {
    // Handlers (Python's among them) expect the host's own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        handle_->thread = std::thread(std::move(body));
    } catch (const std::system_error& error) {
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw IoError(format("thread: cannot be started: {}", error.what()), error.code().value());
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

BackgroundThread::~BackgroundThread() {
    if (exists()) {
        handle_->thread.join();
        return;
    }
    Handle* lost = handle_.release();
    void* head = lost_handles.load(std::memory_order_relaxed);
    do lost->next = static_cast<Handle*>(head);
    while (!lost_handles.compare_exchange_weak(head, lost, std::memory_order_relaxed));
}

}  // namespace tempra::platform
