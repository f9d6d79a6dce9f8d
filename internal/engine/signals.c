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

/* The other signals that the engine handles. */
static const int others[] = {SIGHUP, SIGCONT, SIGINT, SIGQUIT, SIGTERM};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Because of its priority, this constructor runs before the Go runtime starts. */
__attribute__((constructor(101))) static void remember_engine(void)
{
    for (size_t i = 0; i < COUNT(faults); i++) {
        sigaction(faults[i].number, NULL, &faults[i].before);
    }
}

void kinesis_agg_note_signals(void)
{
    for (size_t i = 0; i < COUNT(faults); i++) {
        if (faults[i].go.sa_sigaction == NULL) {
            sigaction(faults[i].number, NULL, &faults[i].go);
        }
    }
}

void kinesis_agg_keep_signals(void)
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
    for (size_t i = 0; i < COUNT(others); i++) {
        if (sigaction(others[i], NULL, &now) == 0 && now.sa_handler != SIG_DFL
            && now.sa_handler != SIG_IGN && !(now.sa_flags & SA_ONSTACK)) {
            now.sa_flags |= SA_ONSTACK;
            sigaction(others[i], &now, NULL);
        }
    }
}
