#include <stddef.h>
#include <stdio.h>

#include "engine.h"
#include "platform.h"
#include "symbols.h"

/* How deep the calls from the engine are on this thread. */
static __thread int entered;

void kinesis_agg_enter(void)
{
    entered++;
}

void kinesis_agg_leave(void)
{
    entered--;
}

const char *kinesis_agg_property(struct kinesis_agg_plugin *plugin, const char *name)
{
    return plugin->api->output_get_property(name, plugin->output);
}

const char *kinesis_agg_name(void *output)
{
    const struct kinesis_agg_symbols *engine = kinesis_agg_symbols();

    return engine->flb_output_name == NULL ? NULL : engine->flb_output_name(output);
}

int kinesis_agg_level(struct kinesis_agg_api *api, void *output)
{
    int level = 0;

    if (!kinesis_agg_has_log(api)) {
        return 3;
    }
    while (level < 5 && api->output_log_check(output, level + 1)) {
        level++;
    }
    return level;
}

int kinesis_agg_log(struct kinesis_agg_api *api, void *output, int level, const char *line)
{
    if (entered == 0 || !kinesis_agg_has_log(api)) {
        return 0;
    }
    if (api->output_log_check(output, level)) {
        api->log_print(level, NULL, 0, "%s", line);
    }
    return 1;
}

int kinesis_agg_say(struct kinesis_agg_plugin *plugin, int level, const char *text)
{
    const char *name = kinesis_agg_name(plugin->output);
    char printable[64];
    char line[512];
    int logged;

    snprintf(printable, sizeof(printable), "%s", name ? name : "kinesis_agg");
    /* An alias can hold any bytes. */
    for (char *c = printable; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~') {
            *c = '?';
        }
    }
    snprintf(line, sizeof(line), KINESIS_AGG_LINE, printable, text);
    kinesis_agg_enter();
    logged = kinesis_agg_log(plugin->api, plugin->output, level, line);
    kinesis_agg_leave();
    return logged;
}
