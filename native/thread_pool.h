// Loops over several threads, and how many threads a loop may use.
#pragma once

#include <cstdint>

namespace crossent {

// The work of a loop: items [begin, end). It must not fork, and an exception that leaves it ends
// the process.
using LoopBody = void (*)(void* context, std::int64_t begin, std::int64_t end, int worker);

// Calls `body` once for each chunk [k * grain, min((k + 1) * grain, items)), grain from 1 on, on at
// most `threads` threads with the calling one among them, and returns when all chunks are done. The
// chunks are the same for any number of threads; which thread takes which is chance. No two threads
// have the same `worker` in [0, threads) at once, so it can name scratch memory. Every call of
// `body` runs under a FloatingPointState.
//
// The caller does the whole loop by itself when there is nothing to share out (one thread, one
// chunk), and when the pool is busy with another loop: that of another Python thread, or the one
// around this call. So no call waits for another, and nesting cannot deadlock.
void parallel_for(std::int64_t items, std::int64_t grain, int threads, LoopBody body,
                  void* context) noexcept;

// How many threads a loop should use: what set_max_threads said, else CROSSENT_NUM_THREADS, else
// the first number of OMP_NUM_THREADS, else the CPUs that this process may run on; at most 1024.
// The variables are read once. Throws std::invalid_argument when CROSSENT_NUM_THREADS is no number.
int max_threads();

// For the whole process, from the next loop on. Below 1: forget, and look at the variables again.
void set_max_threads(int threads);

// set_max_threads where a library's own number is another than at the last call: in between, others
// may change ours.
void follow_threads(int threads);

}  // namespace crossent

// The same for threadpoolctl, which calls them by name through ctypes, where nothing may throw:
// 0 stands for a CROSSENT_NUM_THREADS that is no number, and setting 0 leads back there.
extern "C" {
__attribute__((visibility("default"))) int crossent_get_num_threads() noexcept;
__attribute__((visibility("default"))) void crossent_set_num_threads(int threads) noexcept;
}
