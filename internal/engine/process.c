//go:build linux

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include "process.h"

int kinesis_agg_spawn(const char *command, int out, pid_t *pid)
{
    char *const argv[] = {"sh", "-c", (char *) command, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int ret;

    if ((ret = posix_spawnattr_init(&attributes)) != 0) {
        return ret;
    }
    if ((ret = posix_spawn_file_actions_init(&files)) != 0) {
        posix_spawnattr_destroy(&attributes);
        return ret;
    }
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    if ((ret = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0)) == 0
        && (ret = posix_spawn_file_actions_adddup2(&files, out, 1)) == 0) {
        ret = posix_spawn(pid, "/bin/sh", &files, &attributes, argv, environ);
    }
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return ret;
}
