#include "platform/huge_pages.h"

#include <sys/mman.h>

#include <cstddef>

namespace tempra::platform {

void prefer_huge_pages(void* data, std::int64_t bytes) noexcept {
#if defined(MADV_HUGEPAGE)
    (void)madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#else
    static_cast<void>(data);
    static_cast<void>(bytes);
#endif
}

}  // namespace tempra::platform
