//go:build linux

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "fork.h"

/* The process that loaded the library. Comparing process ids also covers forks
 * that run no handlers of pthread_atfork, such as a bare clone system call. */
static pid_t loaded_in;

/* In a forked child: a duplicate of stderr from the time of the fork, because a
 * daemon closes stderr before it starts its plugins. Otherwise -1. */
static int stderr_at_fork = -1;

/* Runs in every forked child. In most of them an exec follows, which closes the
 * duplicate. fcntl and close are async-signal-safe. */
static void keep_stderr(void)
{
    if (stderr_at_fork >= 0) {
        close(stderr_at_fork);
    }
    stderr_at_fork = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

__attribute__((constructor)) static void remember_process(void)
{
    loaded_in = getpid();
    pthread_atfork(NULL, NULL, keep_stderr);
}

int kinesis_agg_forked(void)
{
    return getpid() != loaded_in;
}

static const char refusal[] =
    "`daemon on` (command line: -d) is not supported: the engine forks after it has loaded "
    "the plugin, and the plugin's Go runtime does not survive a fork. Remove it, and run "
    "Fluent Bit in the foreground under systemd, in a container, or under another supervisor";

/* Reports whether stderr is still the same file as at the fork. */
static int stderr_is_open(void)
{
    struct stat now, then;

    return fstat(STDERR_FILENO, &now) == 0 && fstat(stderr_at_fork, &then) == 0
           && now.st_dev == then.st_dev && now.st_ino == then.st_ino;
}

static void write_line(int fd, const char *name)
{
    char stamp[32] = "";
    time_t now = time(NULL);
    struct tm local;

    if (localtime_r(&now, &local) != NULL) {
        strftime(stamp, sizeof(stamp), "%Y/%m/%d %H:%M:%S", &local);
    }
    dprintf(fd, "[%s] [error] " KINESIS_AGG_LINE "\n", stamp, name, refusal);
}

void kinesis_agg_refuse(struct kinesis_agg_plugin *plugin)
{
    const char *name = plugin == NULL ? NULL : kinesis_agg_name(plugin->output);
    const int logged = plugin != NULL && kinesis_agg_say(plugin, 1, refusal);

    if (stderr_at_fork < 0 || (logged && stderr_is_open())) {
        return;
    }
    write_line(stderr_at_fork, name ? name : "kinesis_agg");
}
