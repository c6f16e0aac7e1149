#include "memory_advice.h"

#include "floating_point.h"

#if defined(__linux__)
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#endif

namespace crossent {

#if defined(__linux__)

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Smaller arrays come from memory that the allocator uses again, whose pages are there already.
constexpr std::size_t kLeastBytes = std::size_t{4} << 20;

}  // namespace

void advise_huge_pages(void* begin, std::size_t bytes) {
    if (bytes < kLeastBytes) {
        return;
    }
    // Only whole huge pages inside: what lies beside the array belongs to others.
    char* const start = static_cast<char*>(begin);
    const auto address = reinterpret_cast<std::uintptr_t>(begin);
    const std::size_t before = (kHugePage - address % kHugePage) % kHugePage;
    const std::size_t inside = (bytes - before) / kHugePage * kHugePage;

    // It is advice: a kernel without huge pages refuses, and the result is the same, later.
    const int callers_errno = errno;
    madvise(start + before, inside, MADV_HUGEPAGE);
    errno = callers_errno;
}

#else

void advise_huge_pages(void*, std::size_t) {}

#endif

}  // namespace crossent
