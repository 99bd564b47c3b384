// SPDX-License-Identifier: Apache-2.0
// Runs a command N times, one after the other, and says for each how many microseconds passed until a program deep inside
// it began to run: the program writes that time to its standard output (see first.c).
//
//     spawn N COMMAND [ARGUMENT...]
#define _GNU_SOURCE
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

int main(int count, char **arguments) {
    for (int left = count > 2 ? atoi(arguments[1]) : 0; left > 0; left--) {
        int ends[2], status;
        pid_t pid;
        int64_t first = 0;
        struct timespec now;
        posix_spawn_file_actions_t actions;
        if (pipe(ends) != 0) return 1;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
        posix_spawn_file_actions_addclose(&actions, ends[0]);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (posix_spawnp(&pid, arguments[2], &actions, NULL, arguments + 2, environ) != 0) return 2;
        close(ends[1]);
        if (read(ends[0], &first, sizeof first) != sizeof first) return 3;
        close(ends[0]);
        posix_spawn_file_actions_destroy(&actions);
        if (waitpid(pid, &status, 0) != pid || status != 0) return 4;
        printf("%.1f\n", (double)(first - now.tv_sec * 1000000000 - now.tv_nsec) / 1000);
    }
    return 0;
}
