/* Reports whether the engine is stopping, and how long it waits for flushes then.
 *
 * exit_signal is the variable in which the engine's handlers of SIGTERM, SIGINT and
 * SIGQUIT note the signal (src/fluent-bit.c), before anything else happens. A hot
 * reload does not set it.
 *
 * service_configs is the engine's table of the options of [SERVICE], with the place of
 * each in struct flb_config (src/flb_config.c). The places differ between releases. */

#ifndef KINESIS_AGG_STOP_H
#define KINESIS_AGG_STOP_H

/* The signal, 0 while the engine runs. NULL if the engine has no such variable. */
const int *kinesis_agg_exit_signal(void);

/* `grace` in seconds, less than 0 for no limit. The engine sets it to -1 for a reload.
 * NULL if it cannot be found. It is valid until the last instance of the configuration
 * exits; call the function during Init. */
const int *kinesis_agg_grace(void);

#endif
