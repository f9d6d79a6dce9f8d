#ifndef KINESIS_AGG_PROCESS_H
#define KINESIS_AGG_PROCESS_H

#include <sys/types.h>

/* Starts a command with /bin/sh in a new process group, with standard output to the
 * descriptor out and no standard input. Returns 0, or an error number. */
int kinesis_agg_spawn(const char *command, int out, pid_t *pid);

#endif
