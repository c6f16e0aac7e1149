// What the drivers beside this file share: one function per scenario, run by its name.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

// Ends the whole process, from any thread of it.
inline void expect(bool is_so, const char* what) {
    if (!is_so) {
        std::fprintf(stderr, "not so: %s\n", what);
        std::_Exit(1);
    }
}

struct Scenario {
    const char* name;
    void (*run)();
};

// A scenario that hangs ends by the signal after this time.
constexpr unsigned kSecondsToRun = 60;

template <int count>
int run_named(const Scenario (&scenarios)[count], int argc, char** argv) {
    alarm(kSecondsToRun);
    for (const Scenario& scenario : scenarios) {
        if (argc == 2 && std::strcmp(scenario.name, argv[1]) == 0) {
            scenario.run();
            std::puts("done");
            return 0;
        }
    }
    std::fprintf(stderr, "no such scenario\n");
    return 2;
}
