#include "thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>

#include "floating_point.h"

namespace crossent {
namespace {

using std::chrono::microseconds;
using std::chrono::steady_clock;

constexpr int kMostThreads = 1024;

// Waking a sleeping thread takes some 50 us on a virtual machine, answering from a spin 1 us. A
// worker spins for about as long as a wake-up costs; the caller, whose loop is nearly done, longer.
constexpr microseconds kWorkerSpins{50};
constexpr microseconds kCallerSpins{500};

struct Loop {
    LoopBody body = nullptr;
    void* context = nullptr;
    std::int64_t items = 0;
    std::int64_t grain = 1;
    std::int64_t chunks = 0;
    // On a cache line of its own: every thread writes it, and all of them read what is above.
    alignas(64) std::atomic<std::int64_t> next_chunk{0};
};

// The state of the pool in one word, so that a worker cannot take a seat at a loop that is just
// being closed: the free seats, and the workers sitting.
constexpr std::uint32_t kOneWorker = 1;
constexpr std::uint32_t kOneSeat = 1 << 16;

int free_seats(std::uint32_t state) { return static_cast<int>(state / kOneSeat); }
int working(std::uint32_t state) { return static_cast<int>(state % kOneSeat); }

struct Pool {
    alignas(64) std::atomic<std::uint32_t> state{0};
    // Held by the caller whose loop the pool serves: `started`, `workers`, `loop` are its to write.
    alignas(64) std::atomic<bool> busy{false};
    int started = 0;
    pthread_t workers[kMostThreads] = {};
    std::atomic<int> sleeping{0};
    std::atomic<bool> caller_sleeps{false};
    // Whoever goes to sleep counts itself before it looks at `state` for the last time, and whoever
    // changes `state` looks at that count afterwards: one of the two sees the other.
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t loop_opened = PTHREAD_COND_INITIALIZER;
    pthread_cond_t worker_left = PTHREAD_COND_INITIALIZER;
    Loop loop;
};

// Never destroyed: workers sleep in it until the process has ended, and the destructor of
// std::condition_variable, run at exit, would wait for them for ever.
static_assert(std::is_trivially_destructible_v<Pool>);
Pool pool;

// A child of fork has none of the workers, and the thread that held the mutex or the pool may be
// one that it has not either. Workers start again at the child's first loop.
void reset_in_child() {
    pthread_mutex_init(&pool.mutex, nullptr);
    pthread_cond_init(&pool.loop_opened, nullptr);
    pthread_cond_init(&pool.worker_left, nullptr);
    pool.started = 0;
    pool.sleeping = 0;
    pool.caller_sleeps = false;
    pool.state = 0;
    pool.busy = false;
}

// When the library is loaded and not at the first loop: a fork in another thread at that moment
// would leave the child with a half-done initialisation to wait for.
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, &reset_in_child);

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Whether `met` came true within the time. With more threads than CPUs the one that is waited for
// may need this CPU, so all but the first microseconds are offered to others.
template <typename Condition>
bool spin_until(Condition met, microseconds limit) {
    for (int i = 0; i < 64; ++i) {
        if (met()) {
            return true;
        }
        pause();
    }
    const auto end = steady_clock::now() + limit;
    do {
        if (met()) {
            return true;
        }
        sched_yield();
    } while (steady_clock::now() < end);
    return false;
}

void take_chunks(Loop& loop, int worker) noexcept {
    for (;;) {
        const std::int64_t chunk = loop.next_chunk.fetch_add(1, std::memory_order_relaxed);
        if (chunk >= loop.chunks) {
            return;
        }
        const std::int64_t begin = chunk * loop.grain;
        loop.body(loop.context, begin, begin + std::min(loop.grain, loop.items - begin), worker);
    }
}

// ---- Workers

// The number of the seat taken, from 1 on, or 0. One who comes back to a loop whose chunks are all
// taken uses up its seats, and soon finds none.
int take_seat() {
    std::uint32_t state = pool.state;
    while (free_seats(state) > 0) {
        if (pool.state.compare_exchange_weak(state, state - kOneSeat + kOneWorker)) {
            return free_seats(state);
        }
    }
    return 0;
}

void leave_seat() {
    const std::uint32_t before = pool.state.fetch_sub(kOneWorker);
    if (working(before) == 1 && pool.caller_sleeps) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_signal(&pool.worker_left);
        pthread_mutex_unlock(&pool.mutex);
    }
}

// Returns at any waking, also when all seats are taken by then: who is late for one loop is early
// for the next.
void sleep_until_called() {
    pthread_mutex_lock(&pool.mutex);
    ++pool.sleeping;
    if (free_seats(pool.state) == 0) {
        pthread_cond_wait(&pool.loop_opened, &pool.mutex);
    }
    --pool.sleeping;
    pthread_mutex_unlock(&pool.mutex);
}

void* run_worker(void*) {
    for (;;) {
        int seat = 0;
        const auto seated = [&] { return (seat = take_seat()) != 0; };
        if (!spin_until(seated, kWorkerSpins)) {
            sleep_until_called();
            continue;
        }
        {
            const FloatingPointState standard;
            take_chunks(pool.loop, seat);
        }
        leave_seat();
    }
    return nullptr;
}

bool start_worker(pthread_t* worker) {
    // A process that waits for SIGTERM in one thread blocks it in its others; a worker that does
    // not know would take the signal and end the process. Faults stay with the thread that makes
    // them.
    sigset_t blocked;
    sigset_t callers;
    sigfillset(&blocked);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) {
        sigdelset(&blocked, fault);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, &callers);
    const bool is_started = pthread_create(worker, nullptr, &run_worker, nullptr) == 0;
    pthread_sigmask(SIG_SETMASK, &callers, nullptr);
    return is_started;
}

// ---- The caller that holds the pool

#if defined(__linux__)

// Keeps the workers off the caller's CPU. Linux guests often take a halted virtual CPU for a busy
// one, and wake a thread on the CPU of its waker, where it waits while the other CPU idles: after a
// pause, a loop of 307 us alone took 307 us on two CPUs, and 190 with this.
void steer_workers(bool has_new_ones) {
    static cpu_set_t workers_cpus;
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0) {
        return;
    }
    if (CPU_COUNT(&cpus) > 1) {
        CPU_CLR(static_cast<unsigned>(sched_getcpu()), &cpus);
    }
    if (CPU_EQUAL(&cpus, &workers_cpus) && !has_new_ones) {
        return;
    }
    workers_cpus = cpus;
    for (int i = 0; i < pool.started; ++i) {
        pthread_setaffinity_np(pool.workers[i], sizeof cpus, &cpus);
    }
}

#else

void steer_workers(bool) {}

#endif

// The system may give fewer: then seats stay free, and the others do the work.
void ensure_workers(int wanted) {
    const int before = pool.started;
    while (pool.started < wanted && start_worker(&pool.workers[pool.started])) {
        ++pool.started;
    }
    if (pool.started > before) {
        steer_workers(true);  // they inherited the caller's CPUs
    }
}

void open_loop(int seats) {
    pool.state = static_cast<std::uint32_t>(seats) * kOneSeat;
    // Waking is a system call, and those who are awake will come by themselves.
    int to_wake = seats - (pool.started - pool.sleeping);
    if (to_wake <= 0) {
        return;
    }
    steer_workers(false);
    pthread_mutex_lock(&pool.mutex);
    while (to_wake-- > 0) {
        pthread_cond_signal(&pool.loop_opened);
    }
    pthread_mutex_unlock(&pool.mutex);
}

// Waits only for workers that took a seat: one that is still waking up has missed this loop.
void close_loop() {
    pool.state &= kOneSeat - 1;  // no free seats
    const auto all_left = [] { return working(pool.state) == 0; };
    if (spin_until(all_left, kCallerSpins)) {
        return;
    }
    pthread_mutex_lock(&pool.mutex);
    pool.caller_sleeps = true;
    while (!all_left()) {
        pthread_cond_wait(&pool.worker_left, &pool.mutex);
    }
    pool.caller_sleeps = false;
    pthread_mutex_unlock(&pool.mutex);
}

// ---- The number of threads

std::atomic<int> thread_limit{0};  // 0: the variables have not been read

// The number that starts `text`, or 0 if that is none from 1 on or if more follows than a list.
int leading_number(const char* text, char list_separator) {
    char* rest = nullptr;
    const long number = std::strtol(text, &rest, 10);
    while (*rest == ' ') {
        ++rest;
    }
    const bool is_whole = rest != text && (*rest == '\0' || *rest == list_separator);
    return is_whole && number >= 1 ? static_cast<int>(std::min<long>(number, kMostThreads)) : 0;
}

int usable_cpus() {
    int cpus = 0;
#if defined(__linux__)
    cpu_set_t masks[8];  // one holds 1024 CPUs, and a call with too small a set fails
    if (sched_getaffinity(0, sizeof masks, masks) == 0) {
        cpus = CPU_COUNT_S(sizeof masks, masks);
    }
#endif
    if (cpus == 0) {
        cpus = static_cast<int>(std::thread::hardware_concurrency());
    }
    return std::clamp(cpus, 1, kMostThreads);
}

int threads_of_environment() {
    const char* own = std::getenv("CROSSENT_NUM_THREADS");
    if (own != nullptr && *own != '\0') {
        const int threads = leading_number(own, '\0');
        if (threads == 0) {
            throw std::invalid_argument(
                std::string("CROSSENT_NUM_THREADS must be a whole number from 1 on; got \"") + own +
                "\". Unset it to use every CPU of this process.");
        }
        return threads;
    }
    // Its list is for nested loops; ours are never nested. A value for other programs is no error.
    const char* openmp = std::getenv("OMP_NUM_THREADS");
    const int threads = openmp == nullptr ? 0 : leading_number(openmp, ',');
    return threads == 0 ? usable_cpus() : threads;
}

}  // namespace

void parallel_for(std::int64_t items, std::int64_t grain, int threads, LoopBody body,
                  void* context) noexcept {
    const FloatingPointState standard;
    const std::int64_t chunks = items / grain + (items % grain > 0);
    if (chunks == 1) return body(context, 0, items, 0);  // nothing to hand out, nor to count
    const auto wanted = static_cast<int>(std::min<std::int64_t>(
        {chunks, static_cast<std::int64_t>(threads), std::int64_t{kMostThreads}}));
    if (wanted < 2 || pool.busy.exchange(true)) {
        Loop loop;
        loop.body = body;
        loop.context = context;
        loop.items = items;
        loop.grain = grain;
        loop.chunks = chunks;
        take_chunks(loop, 0);
        return;
    }
    ensure_workers(wanted - 1);
    pool.loop.body = body;
    pool.loop.context = context;
    pool.loop.items = items;
    pool.loop.grain = grain;
    pool.loop.chunks = chunks;
    pool.loop.next_chunk = 0;
    open_loop(wanted - 1);
    take_chunks(pool.loop, 0);
    close_loop();
    pool.busy = false;
}

int max_threads() {
    int limit = thread_limit;
    if (limit == 0) {
        const int threads = threads_of_environment();
        // What another thread has set in the meantime stands, and is put into `limit`.
        if (thread_limit.compare_exchange_strong(limit, threads)) {
            return threads;
        }
    }
    return limit;
}

void set_max_threads(int threads) { thread_limit = std::clamp(threads, 0, kMostThreads); }

void follow_threads(int threads) {
    static std::atomic<int> followed{0};
    if (threads != followed) {
        followed = threads;
        set_max_threads(threads);
    }
}

}  // namespace crossent

int crossent_get_num_threads() noexcept {
    try {
        return crossent::max_threads();
    } catch (const std::invalid_argument&) {
        return 0;
    }
}

void crossent_set_num_threads(int threads) noexcept { crossent::set_max_threads(threads); }
