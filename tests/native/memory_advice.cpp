// Scenarios for native/memory_advice.h on Linux, run by tests/test_thread_pool.py.
#include "memory_advice.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>

#include "expect.h"

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

// New memory of its own, from a multiple of 2 MiB on.
char* fresh(std::size_t bytes) {
    void* const memory =
        mmap(nullptr, bytes + 2 * kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(memory != MAP_FAILED, "there is memory");
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    return static_cast<char*>(memory) + (2 * kMiB - address % (2 * kMiB)) % (2 * kMiB);
}

struct Advised {
    std::size_t bytes = 0;
    std::uintptr_t first = 0;
    std::uintptr_t end = 0;
    std::size_t huge_kib = 0;  // of them, those that lie in huge pages now
};

// What of [begin, begin + bytes) has the advice: the flag "hg" of its part in /proc/self/smaps.
Advised advised_part(const char* begin, std::size_t bytes) {
    const auto from = reinterpret_cast<std::uintptr_t>(begin);
    std::FILE* const smaps = std::fopen("/proc/self/smaps", "r");
    expect(smaps != nullptr, "/proc/self/smaps can be read");
    Advised advised;
    char line[4096];
    unsigned long first = 0;
    unsigned long end = 0;
    unsigned long huge_kib = 0;
    while (std::fgets(line, sizeof line, smaps) != nullptr) {
        unsigned long numbers[2];
        if (std::sscanf(line, "%lx-%lx ", &numbers[0], &numbers[1]) == 2) {
            first = numbers[0];
            end = numbers[1];
        }
        std::sscanf(line, "AnonHugePages: %lu kB", &huge_kib);
        const bool is_inside = first < from + bytes && from < end;
        if (std::strncmp(line, "VmFlags:", 8) == 0 && is_inside && std::strstr(line, " hg")) {
            advised.first = advised.bytes == 0 ? first : advised.first;
            advised.end = end;
            advised.bytes += end - first;
            advised.huge_kib += huge_kib;
        }
    }
    std::fclose(smaps);
    return advised;
}

void whole_huge_pages_inside_are_advised() {
    char* const memory = fresh(16 * kMiB);
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    crossent::advise_huge_pages(memory + 4096 + 5, 13 * kMiB);
    const Advised advised = advised_part(memory, 16 * kMiB);
    expect(advised.first == address + 2 * kMiB, "from the first whole huge page");
    expect(advised.end == address + 12 * kMiB, "to the last one");
    expect(advised.bytes == 10 * kMiB, "and all between");
}

void aligned_memory_is_advised_whole() {
    char* const memory = fresh(16 * kMiB);
    crossent::advise_huge_pages(memory, 4 * kMiB);
    expect(advised_part(memory, 16 * kMiB).bytes == 4 * kMiB, "4 MiB are large enough");
}

void small_memory_is_left_alone() {
    char* const memory = fresh(16 * kMiB);
    crossent::advise_huge_pages(memory, 4 * kMiB - 1);
    crossent::advise_huge_pages(memory, 0);
    crossent::advise_huge_pages(nullptr, 0);
    expect(advised_part(memory, 16 * kMiB).bytes == 0, "less than 4 MiB get no advice");
}

void errno_is_kept() {
    char* const memory = fresh(16 * kMiB);
    munmap(memory, 16 * kMiB);
    errno = 0;
    expect(madvise(memory, 8 * kMiB, MADV_HUGEPAGE) != 0 && errno != 0, "the system refuses");
    errno = 77;
    crossent::advise_huge_pages(memory, 8 * kMiB);
    expect(errno == 77, "errno is as before");
}

void writing_takes_huge_pages() {
    char* const memory = fresh(64 * kMiB);
    crossent::advise_huge_pages(memory, 64 * kMiB);
    std::memset(memory, 1, 64 * kMiB);
    // Not all of them: a system short of memory in one piece gives some as small pages.
    expect(advised_part(memory, 64 * kMiB).huge_kib >= 16 * 1024, "much of it is in huge pages");
}

constexpr Scenario kScenarios[] = {
    {"whole_huge_pages_inside_are_advised", whole_huge_pages_inside_are_advised},
    {"aligned_memory_is_advised_whole", aligned_memory_is_advised_whole},
    {"small_memory_is_left_alone", small_memory_is_left_alone},
    {"errno_is_kept", errno_is_kept},
    {"writing_takes_huge_pages", writing_takes_huge_pages},
};

}  // namespace

int main(int argc, char** argv) { return run_named(kScenarios, argc, argv); }
