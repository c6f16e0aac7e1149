// Scenarios for native/thread_pool.h, run by tests/test_thread_pool.py.
#include "thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "expect.h"

namespace {

using crossent::parallel_for;

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

void wait_for(const std::atomic<bool>& flag) {
    while (!flag) {
        sleep_ms(1);
    }
}

// ---- Every item once

struct Tally {
    std::int64_t items;
    std::int64_t grain;
    int threads;
    std::vector<std::atomic<int>> done;
    std::atomic<bool> in_use[7] = {};

    Tally(std::int64_t items, std::int64_t grain, int threads)
        : items(items), grain(grain), threads(threads), done(static_cast<std::size_t>(items)) {}

    void run() {
        parallel_for(items, grain, threads, &Tally::add, this);
        for (const std::atomic<int>& times : done) {
            expect(times == 1, "every item is done exactly once");
        }
    }

    static void add(void* context, std::int64_t begin, std::int64_t end, int worker) {
        auto& tally = *static_cast<Tally*>(context);
        expect(begin % tally.grain == 0, "a chunk begins at a multiple of the grain");
        expect(end == std::min(begin + tally.grain, tally.items),
               "a chunk is as long as the grain");
        expect(worker >= 0 && worker < tally.threads, "worker lies in [0, threads)");
        expect(!tally.in_use[worker].exchange(true), "no two threads have the same worker at once");
        for (std::int64_t i = begin; i < end; ++i) {
            ++tally.done[static_cast<std::size_t>(i)];
        }
        tally.in_use[worker] = false;
    }
};

void each_item_once() {
    for (const int threads : {1, 2, 7}) {
        for (const std::int64_t items : {0, 1, 2, 63, 64, 65, 1000, 10007}) {
            for (const std::int64_t grain : {1, 3, 7, 64, 1000, 20000}) {
                Tally(items, grain, threads).run();
            }
        }
    }
}

void many_short_loops() {
    for (int i = 0; i < 5000; ++i) {
        Tally(40, 3, 2 + i % 6).run();
    }
}

// ---- Threads that really run beside each other

// A loop that ends only when all of its threads are in it at once.
struct Meeting {
    int threads;
    std::atomic<int> arrived{0};

    explicit Meeting(int threads) : threads(threads) {
        parallel_for(threads, 1, threads, &Meeting::arrive, this);
        expect(arrived == threads, "everybody came");
    }

    static void arrive(void* context, std::int64_t, std::int64_t, int) {
        auto& meeting = *static_cast<Meeting*>(context);
        ++meeting.arrived;
        while (meeting.arrived < meeting.threads) {
            sleep_ms(1);
        }
    }
};

void threads_meet() {
    for (const int threads : {2, 7, 3, 2}) {
        Meeting{threads};
        sleep_ms(2);  // the workers fall asleep
        Meeting{threads};
    }
}

void one_thread_is_the_caller() {
    auto caller = pthread_self();
    const auto body = [](void* context, std::int64_t, std::int64_t, int worker) {
        const bool is_caller = pthread_equal(pthread_self(), *static_cast<pthread_t*>(context));
        expect(is_caller && worker == 0, "the caller is alone");
        sleep_ms(1);  // time for others to come
    };
    Meeting{3};
    parallel_for(20, 1, 1, body, &caller);
    parallel_for(20, 20, 3, body, &caller);
    parallel_for(20, 1, 0, body, &caller);
}

// ---- Several callers

void concurrent_callers() {
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) {
        callers.emplace_back([i] {
            for (int round = 0; round < 500; ++round) {
                Tally(100 + round, 1 + i, 2 + i % 2).run();
            }
        });
    }
    for (std::thread& caller : callers) {
        caller.join();
    }
}

struct Gate {
    std::atomic<int> inside{0};
    std::atomic<bool> entered{false};
    std::atomic<bool> open{false};

    static void wait(void* context, std::int64_t, std::int64_t, int) {
        auto& gate = *static_cast<Gate*>(context);
        ++gate.inside;
        gate.entered = true;
        wait_for(gate.open);
    }
};

// The first loop ends only after the second, which finds the pool taken.
void a_busy_pool_keeps_nobody_waiting() {
    Gate gate;
    std::thread first([&] { parallel_for(3, 1, 3, &Gate::wait, &gate); });
    wait_for(gate.entered);
    Tally(1000, 7, 3).run();
    gate.open = true;
    first.join();
    Meeting{3};
}

void nested() {
    std::atomic<int> total{0};
    const auto outer = [](void* context, std::int64_t, std::int64_t, int) {
        const auto inner = [](void* total, std::int64_t begin, std::int64_t end, int worker) {
            expect(worker == 0, "an inner loop runs on the thread that calls it");
            *static_cast<std::atomic<int>*>(total) += static_cast<int>(end - begin);
        };
        parallel_for(100, 3, 4, inner, context);
    };
    for (int round = 0; round < 50; ++round) {
        parallel_for(8, 1, 3, outer, &total);
    }
    expect(total == 50 * 8 * 100, "every item of every inner loop is done");
}

// ---- Fork and exit

void expect_of_child(void (*run)()) {
    const pid_t child = fork();
    expect(child >= 0, "fork works");
    if (child == 0) {
        alarm(kSecondsToRun);
        run();
        std::exit(0);
    }
    int status = -1;
    expect(waitpid(child, &status, 0) == child, "the child ends");
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ends well");
}

void fork_with_a_warm_pool() {
    Meeting{3};
    expect_of_child([] {
        Meeting{3};
        expect_of_child([] { Meeting{2}; });
        Meeting{3};
    });
    Meeting{3};
    sleep_ms(5);  // this time the workers are asleep
    expect_of_child([] { Meeting{3}; });
    Meeting{3};
}

void fork_while_another_thread_is_in_a_loop() {
    Gate gate;
    std::thread other([&] { parallel_for(3, 1, 3, &Gate::wait, &gate); });
    // All of them: a thread that is being started holds locks of the sanitizer's, which the child
    // would wait for.
    while (gate.inside < 3) sleep_ms(1);
    expect_of_child([] { Meeting{3}; });
    gate.open = true;
    other.join();
}

// The caller has done its part, and sleeps until the other thread has left.
struct LateWorker {
    std::atomic<bool> entered{false};
    std::atomic<bool> open{false};
    std::atomic<bool> left{false};

    void run() {
        parallel_for(2, 1, 2, &LateWorker::come, this);
        expect(left, "the caller waits for its worker");
    }

    static void come(void* context, std::int64_t, std::int64_t, int worker) {
        auto& late = *static_cast<LateWorker*>(context);
        if (worker == 0) {
            wait_for(late.entered);
        } else {
            late.entered = true;
            sleep_ms(10);
            wait_for(late.open);
            late.left = true;
        }
    }
};

void a_late_worker_is_waited_for() {
    LateWorker late;
    late.open = true;
    late.run();
}

void fork_while_a_caller_sleeps() {
    LateWorker late;
    std::thread caller([&] { late.run(); });
    wait_for(late.entered);
    sleep_ms(10);
    // More than once: a condition variable with a waiter of the parent left in it loses the second
    // signal.
    expect_of_child([] {
        for (int i = 0; i < 4; ++i) {
            a_late_worker_is_waited_for();
        }
    });
    late.open = true;
    caller.join();
}

// Forks fall on any moment of the other thread's loops, now and then while it holds the mutex to
// wake its many workers. It owns no memory, which would be a leak in the child.
void forks_at_any_moment() {
    std::atomic<bool> all_are_started{false};  // as in fork_while_another_thread_is_in_a_loop
    std::atomic<bool> stop{false};
    std::thread other([&] {
        const auto nothing = [](void*, std::int64_t, std::int64_t, int) {};
        Meeting{20};
        all_are_started = true;
        while (!stop) {
            parallel_for(20, 1, 20, nothing, nullptr);
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    });
    wait_for(all_are_started);
    for (int i = 0; i < 50; ++i) {
        expect_of_child([] {
            Meeting{3};
            sleep_ms(2);
            Meeting{3};
        });
    }
    stop = true;
    other.join();
}

// Only where the stack of a thread comes from an ordinary mmap: not under sanitizers.
class NoMoreThreads {
  public:
    NoMoreThreads() {
        pthread_getattr_default_np(&usual_);
        pthread_attr_t too_large = usual_;
        pthread_attr_setstacksize(&too_large, std::size_t{1} << 46);
        pthread_setattr_default_np(&too_large);
    }

    ~NoMoreThreads() { pthread_setattr_default_np(&usual_); }

  private:
    pthread_attr_t usual_;
};

void a_system_without_threads() {
    {
        const NoMoreThreads now;
        Tally(1000, 7, 3).run();
    }
    Meeting{3};
}

// The loop at the time of the fork has free seats, and nobody to keep the child's workers off them.
void fork_beside_a_loop_with_free_seats() {
    Gate gate;
    std::atomic<bool> goes{false};
    std::thread other([&] {
        wait_for(goes);
        parallel_for(3, 1, 3, &Gate::wait, &gate);
    });
    {
        const NoMoreThreads now;
        goes = true;
        wait_for(gate.entered);
    }
    expect_of_child([] { Meeting{3}; });
    gate.open = true;
    other.join();
}

void exit_while_another_thread_is_in_a_loop() {
    std::thread([] {
        for (;;) {
            Tally(1000, 3, 3).run();
        }
    }).detach();
    sleep_ms(20);
}

// ---- What workers do to the rest of the process

double process_cpu_seconds() {
    timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void idle_workers_use_no_cpu() {
    Meeting{3};
    sleep_ms(20);
    const double before = process_cpu_seconds();
    sleep_ms(300);
    expect(process_cpu_seconds() - before < 0.01, "workers without work sleep");
}

void workers_leave_signals_to_the_process() {
    sigset_t before;
    pthread_sigmask(SIG_SETMASK, nullptr, &before);
    expect(sigismember(&before, SIGTERM) == 0, "the caller takes SIGTERM");
    const auto body = [](void* meeting, std::int64_t begin, std::int64_t end, int worker) {
        Meeting::arrive(meeting, begin, end, worker);
        sigset_t blocked;
        pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
        expect(sigismember(&blocked, SIGTERM) == (worker > 0), "only the caller takes SIGTERM");
        expect(sigismember(&blocked, SIGSEGV) == 0, "a fault is reported where it happens");
    };
    Meeting meeting{1};
    meeting.arrived = 0;
    meeting.threads = 2;
    parallel_for(2, 1, 2, body, &meeting);
}

void workers_keep_off_the_callers_cpu() {
    struct Placement {
        std::atomic<int> arrived{0};
        cpu_set_t cpus_of_worker;
    } placement;
    const auto body = [](void* context, std::int64_t, std::int64_t, int worker) {
        auto& at = *static_cast<Placement*>(context);
        if (worker == 1) {
            sched_getaffinity(0, sizeof at.cpus_of_worker, &at.cpus_of_worker);
        }
        ++at.arrived;
        while (at.arrived < 2) {
        }
    };
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &cpus)) {
            continue;
        }
        // Here for a moment, then free again: when the loop is called it is still this CPU, unless
        // other work moves the caller meanwhile. Then it is tried again: a worker that is not kept
        // off would have this CPU every time.
        bool kept_off = false;
        for (int attempt = 0; attempt < 100 && !kept_off; ++attempt) {
            cpu_set_t only;
            CPU_ZERO(&only);
            CPU_SET(cpu, &only);
            sched_setaffinity(0, sizeof only, &only);
            sched_setaffinity(0, sizeof cpus, &cpus);
            sleep_ms(2);
            const int before = sched_getcpu();
            placement.arrived = 0;
            parallel_for(2, 1, 2, body, &placement);
            kept_off = before == sched_getcpu() &&
                       CPU_ISSET(before, &placement.cpus_of_worker) == (CPU_COUNT(&cpus) == 1);
        }
        expect(kept_off, "a worker has all CPUs but the caller's");
    }
}

// ---- The number of threads

void print_limit() {
    try {
        std::printf("%d\n", crossent::max_threads());
    } catch (const std::invalid_argument& error) {
        std::puts(error.what());
    }
    std::printf("%d\n", crossent_get_num_threads());
}

void print_limit_on_one_cpu() {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    print_limit();
}

void limits_can_be_set() {
    const int first = crossent_get_num_threads();
    crossent::set_max_threads(3);
    expect(crossent::max_threads() == 3 && crossent_get_num_threads() == 3, "a limit holds");
    crossent_set_num_threads(5000);
    expect(crossent::max_threads() == 1024, "a limit is at most 1024");
    crossent_set_num_threads(first);
    expect(crossent_get_num_threads() == first, "what was read can be set again");
    crossent::set_max_threads(-1);
    expect(crossent_get_num_threads() == first, "below 1, the variables are read again");
}

constexpr Scenario kScenarios[] = {
    {"each_item_once", each_item_once},
    {"many_short_loops", many_short_loops},
    {"threads_meet", threads_meet},
    {"one_thread_is_the_caller", one_thread_is_the_caller},
    {"concurrent_callers", concurrent_callers},
    {"a_busy_pool_keeps_nobody_waiting", a_busy_pool_keeps_nobody_waiting},
    {"nested", nested},
    {"fork_with_a_warm_pool", fork_with_a_warm_pool},
    {"fork_while_another_thread_is_in_a_loop", fork_while_another_thread_is_in_a_loop},
    {"a_late_worker_is_waited_for", a_late_worker_is_waited_for},
    {"fork_while_a_caller_sleeps", fork_while_a_caller_sleeps},
    {"forks_at_any_moment", forks_at_any_moment},
    {"a_system_without_threads", a_system_without_threads},
    {"fork_beside_a_loop_with_free_seats", fork_beside_a_loop_with_free_seats},
    {"exit_while_another_thread_is_in_a_loop", exit_while_another_thread_is_in_a_loop},
    {"idle_workers_use_no_cpu", idle_workers_use_no_cpu},
    {"workers_leave_signals_to_the_process", workers_leave_signals_to_the_process},
    {"workers_keep_off_the_callers_cpu", workers_keep_off_the_callers_cpu},
    {"print_limit", print_limit},
    {"print_limit_on_one_cpu", print_limit_on_one_cpu},
    {"limits_can_be_set", limits_can_be_set},
};

}  // namespace

int main(int argc, char** argv) { return run_named(kScenarios, argc, argv); }
