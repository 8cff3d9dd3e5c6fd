// Threads of a block as coroutines with stacks of their own, one block after another. A barrier
// gives the processor to the next thread; when all wait, all go on. A warp runs as far ahead of the
// others as barriers let it, and every second launch runs warps and threads in the opposite order,
// so that a missing barrier shows, or gives two runs that differ. A barrier
// that some threads of the warp or block never reach ends the process with a line that says so.
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>

#include "cuda_runtime.h"
#include "device_access.h"

// Saves the registers that a function must keep, changes stacks, and returns there.
extern "C" void tempra_emulation_switch(void** from, void* to);
asm(R"(
.text
.globl tempra_emulation_switch
.hidden tempra_emulation_switch
.type tempra_emulation_switch, @function
tempra_emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size tempra_emulation_switch, .-tempra_emulation_switch
)");

namespace tempra::cuda::emulation {

uint3 thread_index, block_index;
dim3 block_size, grid_size;

namespace {

constexpr std::size_t kStackBytes = 96 * 1024;
constexpr int kWarp = 32, kMostThreads = 1024;

enum class State { ready, waits_for_warp, waits_for_block, ended };

struct Copy {
    void* to;
    const void* from;
    int bytes;
};

struct Thread {
    std::deque<std::vector<Copy>> committed;
    std::vector<Copy> started;
    void* stack_pointer = nullptr;
    State state = State::ended;
    uint3 index{};
    unsigned exchanges = 0;
};

struct Warp {
    alignas(16) unsigned char pieces[2][kWarp * kExchangeBytes];
};

struct Machine {
    std::vector<unsigned char> stacks = std::vector<unsigned char>(kStackBytes * kMostThreads);
    std::vector<unsigned char> shared = std::vector<unsigned char>(256 * 1024 + 1024);
    Thread threads[kMostThreads];
    Warp warps[kMostThreads / kWarp];
    void* scheduler = nullptr;
    int current = 0, count = 0;
    unsigned launches = 0;
    void (*body)(const void*) = nullptr;
    const void* context = nullptr;
};

Machine& machine() {
    static auto* const made = new Machine;
    return *made;
}

[[noreturn]] void stop(const char* reason) {
    std::fprintf(stderr, "emulated device: %s (block %u %u %u, thread %d)\n", reason, block_index.x,
                 block_index.y, block_index.z, machine().current);
    std::abort();
}

void give_way(State state) {
    Machine& m = machine();
    Thread& me = m.threads[m.current];
    me.state = state;
    tempra_emulation_switch(&me.stack_pointer, m.scheduler);
}

void thread_main() {
    machine().body(machine().context);
    give_way(State::ended);
    stop("a thread that had ended went on");
}

void prepare(int number, dim3 block) {
    Machine& m = machine();
    const auto n = static_cast<unsigned>(number);
    m.threads[number].state = State::ready;
    m.threads[number].exchanges = 0;
    m.threads[number].committed.clear();
    m.threads[number].started.clear();
    m.threads[number].index = {n % block.x, n / block.x % block.y, n / block.x / block.y};
    // As if `thread_main` had been called: 16-byte aligned but for a return address.
    auto top = reinterpret_cast<std::uintptr_t>(m.stacks.data() + kStackBytes * (n + 1));
    auto* words = reinterpret_cast<void**>(top / 64 * 64);
    *--words = nullptr;
    *--words = reinterpret_cast<void*>(&thread_main);
    for (int saved = 0; saved < 6; ++saved) *--words = nullptr;
    m.threads[number].stack_pointer = words;
}

void resume(int number) {
    Machine& m = machine();
    m.current = number;
    thread_index = m.threads[number].index;
    tempra_emulation_switch(&m.scheduler, m.threads[number].stack_pointer);
}

// Lets go on who has waited for the last one; false when nobody can.
bool release(int begin, int end, State waiting) {
    Machine& m = machine();
    bool any = false;
    for (int i = begin; i < end; ++i) {
        if (m.threads[i].state == State::ended) continue;
        if (m.threads[i].state != waiting) return false;
        any = true;
    }
    for (int i = begin; i < end && any; ++i) {
        if (m.threads[i].state == waiting) m.threads[i].state = State::ready;
    }
    return any;
}

// One warp as far as it comes without the others.
void run_warp(int begin, int end, bool backwards) {
    Machine& m = machine();
    do {
        for (int i = 0; i < end - begin; ++i) {
            const int number = backwards ? end - 1 - i : begin + i;
            if (m.threads[number].state == State::ready) resume(number);
        }
    } while (release(begin, end, State::waits_for_warp));
}

void run_block(dim3 block) {
    Machine& m = machine();
    for (int i = 0; i < m.count; ++i) prepare(i, block);
    const bool backwards = m.launches % 2 != 0;
    const int warps = (m.count + kWarp - 1) / kWarp;
    for (;;) {
        for (int w = 0; w < warps; ++w) {
            const int begin = (backwards ? warps - 1 - w : w) * kWarp;
            run_warp(begin, begin + kWarp < m.count ? begin + kWarp : m.count, backwards);
        }
        bool alive = false;
        for (int i = 0; i < m.count; ++i) alive = alive || m.threads[i].state != State::ended;
        if (!alive) return;
        if (!release(0, m.count, State::waits_for_block)) {
            stop("threads wait for others that do not come: a barrier in a branch");
        }
    }
}

}  // namespace

void wait_for_block() { give_way(State::waits_for_block); }

const unsigned char* exchange_in_warp(const void* mine, int bytes) {
    Machine& m = machine();
    Thread& me = m.threads[m.current];
    unsigned char* const pieces = m.warps[m.current / kWarp].pieces[me.exchanges++ % 2];
    std::memcpy(pieces + m.current % kWarp * kExchangeBytes, mine, static_cast<std::size_t>(bytes));
    give_way(State::waits_for_warp);
    return pieces;
}

void* dynamic_shared_memory() {
    return reinterpret_cast<void*>(
        (reinterpret_cast<std::uintptr_t>(machine().shared.data()) + 1023) / 1024 * 1024);
}

void start_copy(void* to, const void* from, int bytes) {
    const auto wrong = [bytes](const void* at) {
        return reinterpret_cast<std::uintptr_t>(at) % static_cast<unsigned>(bytes) != 0;
    };
    if (wrong(to) || wrong(from)) stop("an asynchronous copy off its alignment");
    // What is there until it arrives is not to be read.
    std::memset(to, 0xFF, static_cast<std::size_t>(bytes));
    machine().threads[machine().current].started.push_back({to, from, bytes});
}

void commit_copies() {
    Thread& me = machine().threads[machine().current];
    me.committed.push_back(std::move(me.started));
    me.started.clear();
}

void wait_for_copies(int pending) {
    auto& committed = machine().threads[machine().current].committed;
    while (committed.size() > static_cast<std::size_t>(pending)) {
        for (const Copy& copy : committed.front()) {
            std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.bytes));
        }
        committed.pop_front();
    }
}

Launch::Launch(dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream)
    : grid_(grid), block_(block), shared_bytes_(shared_bytes), stream_(stream) {
    if (stream == nullptr) stop("a kernel was put on the null stream");
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) {
        stop("a grid of no blocks, or of more than 65535 in y or z");
    }
    if (block.x * block.y * block.z == 0 || block.x * block.y * block.z > kMostThreads) {
        stop("a block of no threads or of more than 1024");
    }
    if (shared_bytes > 227 * 1024) stop("more than 227 KiB of shared memory");
}

void Launch::run_threads(void (*thread)(const void*), const void* context) const {
    const DeviceAccess access;
    Machine& m = machine();
    m.body = thread;
    m.context = context;
    m.count = static_cast<int>(block_.x * block_.y * block_.z);
    block_size = block_;
    grid_size = grid_;
    for (unsigned z = 0; z < grid_.z; ++z) {
        for (unsigned y = 0; y < grid_.y; ++y) {
            for (unsigned x = 0; x < grid_.x; ++x) {
                block_index = {x, y, z};
                // Shared memory holds nothing useful: not a number.
                std::memset(dynamic_shared_memory(), 0xFF, shared_bytes_);
                run_block(block_);
            }
        }
    }
    ++m.launches;
}

}  // namespace tempra::cuda::emulation
