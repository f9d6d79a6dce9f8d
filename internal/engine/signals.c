//go:build linux

#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>

#include "signals.h"

/* The faults that the engine handles. */
static struct fault {
    int number;
    struct sigaction before; /* the handler of the engine when the library was loaded */
    struct sigaction go;     /* the handler of the Go runtime; sa_sigaction is NULL until it is noted */
} faults[] = {{.number = SIGSEGV}, {.number = SIGFPE}};

/* The signals that the engine handles, and those that an operator may send to it. */
static const int engine_signals[] = {SIGHUP, SIGCONT, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void block_engine_signals(sigset_t *before)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < COUNT(engine_signals); i++) {
        sigaddset(&set, engine_signals[i]);
    }
    pthread_sigmask(SIG_BLOCK, &set, before);
}

static sigset_t before_load;

/* Because of its priority, this constructor runs before the Go runtime starts. The
 * threads of the runtime, also those that it creates later, inherit the mask of the
 * thread that loads the library. */
__attribute__((constructor(101))) static void before_go(void)
{
    for (size_t i = 0; i < COUNT(faults); i++) {
        sigaction(faults[i].number, NULL, &faults[i].before);
    }
    block_engine_signals(&before_load);
}

/* This constructor runs after the one that starts the Go runtime: constructors
 * without a priority run in the order in which the objects are linked, and the Go
 * linker names its own object first. */
__attribute__((constructor)) static void after_go(void)
{
    pthread_sigmask(SIG_SETMASK, &before_load, NULL);
}

void kinesis_agg_note_signals(void)
{
    for (size_t i = 0; i < COUNT(faults); i++) {
        if (faults[i].go.sa_sigaction == NULL) {
            sigaction(faults[i].number, NULL, &faults[i].go);
        }
    }
}

/* Does not replace the handlers of others, such as a second Go library. */
static void restore_fault_handlers(void)
{
    struct sigaction now;

    for (size_t i = 0; i < COUNT(faults); i++) {
        struct fault *f = &faults[i];

        if (f->go.sa_sigaction != NULL && sigaction(f->number, NULL, &now) == 0
            && now.sa_sigaction == f->before.sa_sigaction
            && now.sa_sigaction != f->go.sa_sigaction) {
            sigaction(f->number, &f->go, NULL);
        }
    }
}

void kinesis_agg_enter_go(sigset_t *before)
{
    block_engine_signals(before);
    restore_fault_handlers();
}

void kinesis_agg_leave_go(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}
