#include "tempra/threads.h"

namespace tempra {

void parallel_for(std::int64_t count, std::int64_t grain, RangeFunction body, void* context) {
    for (std::int64_t begin = 0; begin < count; begin += grain) {
        body(context, begin, begin + grain < count ? begin + grain : count);
    }
}

int num_threads() { return 1; }
void set_num_threads(int) {}
void set_executor(const Executor&) {}

}  // namespace tempra
