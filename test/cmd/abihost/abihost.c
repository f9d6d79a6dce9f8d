/*
 * abihost loads a built Fluent Bit output plugin written in Go as Fluent
 * Bit's engine does, gives it options and chunks, and reports what it returned:
 * one line on stdout for each call, the plugin's log on stderr.
 *
 *   cc -std=c11 -Wall -Wextra -Werror -O1 -g -rdynamic -pthread \
 *      -o abihost abihost.c -ldl
 *
 * With -DABIHOST_OLD_ENGINE it is an engine before 2.0: an api table of one
 * slot, no flb_log_print and no flb_output_log_check to be found, none of the
 * calls of later engines, and a definition that ends with the description.
 *
 * `abihost --help` has the command line. On Windows, windows.inc replaces what it uses
 * of Linux. There it exports no symbols, as Fluent Bit for Windows, and has no
 * --coroutine-stack, --daemon, --children and --signals.
 *
 * What of the engine it models: the order of calls, and the threads they come
 * from; one flbgo_output_plugin for all instances, overwritten by each Init;
 * the tag and the chunk are gone after a flush; the exported symbols; flushes
 * on the stack of a coroutine. What it does not: time between retries,
 * metrics, configuration files, and that a failed Init ends the engine.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#ifdef _WIN32
#include "windows.inc"
#else
#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#endif

/* ---- the ABI: what engine and plugin agree on ------------------------- */

enum { FLB_ERROR = 0, FLB_OK = 1, FLB_RETRY = 2 };
enum { LOG_ERROR = 1, LOG_WARN = 2, LOG_INFO = 3, LOG_DEBUG = 4, LOG_TRACE = 5 };
enum { PROXY_OUTPUT_PLUGIN = 2, PROXY_GOLANG = 11 };

struct instance;

/* What the plugin fills in when it registers. */
struct flb_plugin_proxy_def {
    int type;
    int proxy;
    int flags;
    char *name;
    char *description;
    int event_type;        /* engines from 4.2.3 on */
    void *config_map;      /* engine 5.1 */
};

/* What the engine offers. Before 2.0 it ended after the first slot. */
struct flb_api {
    const char *(*output_get_property)(const char *, struct instance *);
    const char *(*input_get_property)(const char *, void *);
    void *(*output_get_cmt_instance)(struct instance *);
    void *(*input_get_cmt_instance)(void *);
    void (*log_print)(int, const char *, int, const char *, ...);
    int (*input_log_check)(void *, int);
    int (*output_log_check)(struct instance *, int);
    const char *(*custom_get_property)(const char *, void *);
    int (*custom_log_check)(void *, int);
};

/* Where the plugin leaves its own pointer for an instance. */
struct flb_plugin_proxy_context {
    void *remote_context;
    void *proxy;
};

/* What Init is called with: the same one for all instances. */
struct flbgo_output_plugin {
    char *name;
    void *api;
    void *o_ins;
    struct flb_plugin_proxy_context *context;

    int (*cb_init)(struct flbgo_output_plugin *);
    int (*cb_flush)(const void *, size_t, const char *);
    int (*cb_flush_ctx)(void *, const void *, size_t, char *);
    int (*cb_exit)(void);
    int (*cb_exit_ctx)(void *);
};

#ifdef ABIHOST_OLD_ENGINE
enum { ENGINE_IS_OLD = 1 };
static const size_t api_size = offsetof(struct flb_api, input_get_property);
static const size_t def_size = offsetof(struct flb_plugin_proxy_def, event_type);
#define ENGINE_EXPORT static
#else
enum { ENGINE_IS_OLD = 0 };
static const size_t api_size = sizeof(struct flb_api);
static const size_t def_size = sizeof(struct flb_plugin_proxy_def);
#define ENGINE_EXPORT
#endif

/* ---- the command line ------------------------------------------------- */

struct property {
    char *key;
    char *value;
};

struct instance {
    struct property *properties;
    size_t property_count;
    int log_level;                              /* 0: the host's */
    int workers;
    const char *alias;
    char name[64];
    /* one round only */
    struct flb_plugin_proxy_context *context;
    int initialized;
    struct pool *pools;                         /* the last one that was created first */
    int by_plugin;                              /* pools that the plugin created */
    int flush_id;
    int closed;                                 /* a call that has to be the last of Init was made */
};

struct chunk {
    int instance;                               /* -1: every instance */
    char *tag;
    char *file;
    unsigned char *bytes;
    size_t size;
    int number;
};

/* The threads of a pool. They only wait for their end: flushes come from the
 * threads of --threads. */
struct pool {
    struct pool *next;
    pthread_t *threads;
    int count;
    int stop[2];                                /* a pipe: closed to end the threads */
};

enum { MAX_TWINS = 8 };

static struct {
    int threads;
    int repeat;
    int retry;
    int retry_wait_ms;
    int rounds;
    int log_level;
    size_t coroutine_stack;
    int dry_run;
    int expect_ok;
    int exit_early;
    int daemon;
    int children;
    int signals;
    int crash;
    const char *stream;
    const char *plugin;
    const char *twins[MAX_TWINS];
    int twin_count;
    struct instance *instances;
    int instance_count;
    struct chunk *chunks;
    int chunk_count;
} options = { .threads = 1, .repeat = 1, .rounds = 1, .log_level = LOG_INFO };

static const char usage_text[] =
    "usage: abihost [OPTION ...] PLUGIN.so --instance [KEY=VALUE ...] ... "
    "[--chunk [I:]TAG=FILE ...]\n"
    "\n"
    "Loads a Fluent Bit output plugin written in Go as the engine does.\n"
    "\n"
    "  --instance [KEY=VALUE ...]   an [OUTPUT] section: its options, up to the\n"
    "                               next word that begins with --\n"
    "  --chunk [I:]TAG=FILE         flush the bytes of FILE under TAG to instance I,\n"
    "                               counted from 0, or to every instance\n"
    "  --stream FILE                then flush chunks as they come from FILE, each\n"
    "                               to one instance: a line `I TAG LENGTH` and the\n"
    "                               bytes; no --repeat, and one round\n"
    "\n"
    "  --threads N                  flush from N threads, as with `workers N`; 0 is\n"
    "                               the engine's own thread, as without (default 1)\n"
    "  --repeat N                   flush each chunk N times (default 1)\n"
    "  --retry N                    flush again, same bytes, while the plugin returns\n"
    "                               RETRY, at most N times (default 0)\n"
    "  --retry-wait MS              wait between two such flushes (default 0)\n"
    "  --coroutine-stack BYTES      flush on a stack of BYTES from malloc: engines\n"
    "                               before 5.1 have 24576, later ones 65536\n"
    "                               (default 0: the thread's own stack)\n"
    "  --rounds N                   load, register, run and unload N times (default 1)\n"
    "  --dry-run                    register and exit, never Init nor flush\n"
    "  --log-level LEVEL            error, warn, info, debug or trace (default info);\n"
    "                               an instance's log_level=LEVEL overrides it\n"
    "  --exit-early                 exit the instances once stdin ends, whatever is\n"
    "                               under way, and begin no other flush\n"
    "  --twin OTHER.so              load a second plugin beside the first, for the same\n"
    "                               instances and chunks, and run both at once; up to 8\n"
    "                               times. The same path is the same library, whose calls\n"
    "                               then come from several threads at once\n"
    "  --daemon                     fork after the plugin has registered, as `daemon on`\n"
    "                               does: the child closes stderr and goes on, the parent\n"
    "                               exits with the child's exit code\n"
    "  --children                   while flushes run, start children in other threads:\n"
    "                               by fork and exec, and by popen\n"
    "  --signals                    install signal handlers before the plugin is loaded\n"
    "                               and again in each of them, as the engine does, and\n"
    "                               get the engine's signals and others all the time\n"
    "                               while flushes run\n"
    "  --crash                      cause a SIGSEGV in C after the flushes (--signals: the\n"
    "                               handler reports it and aborts)\n"
    "  --expect-ok                  exit 1 if a chunk's last result is not OK\n"
    "  --help                       this text\n"
    "\n"
    "On stdout one line for each call: a word, then key=value, with bytes that\n"
    "would confuse a reader as %XX:\n"
    "  register round= ret= name=\n"
    "  init round= instance= ret= outcome=OK|FAILED ms=\n"
    "  workers round= instance= pools= by_plugin= threads=   (after an Init that is OK:\n"
    "                              thread pools, of these created by the plugin, and\n"
    "                              the threads of all; an instance's workers=N is the\n"
    "                              engine's option)\n"
    "  flush round= instance= chunk= tag= file= bytes= attempt= ret=OK|ERROR|RETRY|N ms= at=\n"
    "        [stack=BYTES USED, with --coroutine-stack]\n"
    "  skip round= instance= chunk= tag= file=     (the instance's Init failed)\n"
    "  children round= forked= popened= failed=    (--children)\n"
    "  signals round= sent= caught= misplaced= plugin_has=   (--signals: misplaced\n"
    "                              interrupted a thread that is not the host's, or one on\n"
    "                              another stack than its own; plugin_has: of SIGSEGV,\n"
    "                              SIGFPE and SIGBUS, how many the library handles)\n"
    "  exiting round=                              (ExitCtx comes next)\n"
    "  exit round= instance= context=SET|NULL ret= ms= at=\n"
    "  unregister round=\n"
    "  round n= rss_kib= peak_kib= threads= fds=\n"
    "  end ok= error= retry= skipped= plugin_stdout_bytes=\n"
    "ms is how long the call took, at when it returned, by one clock for all lines.\n"
    "What the plugin itself writes to stdout is counted and shown on stderr.\n"
    "\n"
    "Exit: 0 the host did its work, whatever the plugin returned; 1 --expect-ok was\n"
    "not met; 2 usage; 3 the plugin does not load or register, broke the host's\n"
    "memory, or used the engine's functions for threads in the wrong order.\n";

static void die(int code, const char *format, ...)
{
    va_list args;

    fputs("abihost: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(code);
}

/* The process's stdout, safe from the plugin. */
static FILE *report;

static void *need(void *p)
{
    if (p == NULL) {
        die(3, "out of memory");
    }
    return p;
}

static int parse_number(const char *option, const char *text, long least, long most)
{
    char *end;
    long n;

    if (text == NULL) {
        die(2, "%s needs a number", option);
    }
    errno = 0;
    n = strtol(text, &end, 10);
    if (errno != 0 || *text == '\0' || *end != '\0' || n < least || n > most) {
        die(2, "%s %s: want a number from %ld to %ld", option, text, least, most);
    }
    return (int) n;
}

static int parse_level(const char *text)
{
    static const char *const names[] = { "error", "warn", "info", "debug", "trace" };

    for (int i = 0; text != NULL && i < LOG_TRACE; i++) {
        if (strcasecmp(text, names[i]) == 0) {
            return LOG_ERROR + i;
        }
    }
    die(2, "log level %s: want error, warn, info, debug or trace", text ? text : "(none)");
    return 0;
}

/* Options that the engine keeps to itself: a plugin reads NULL for them. */
static int engine_keeps(const char *key)
{
    static const char *const whole[] = {
        "name", "match", "match_regex", "alias", "log_level", "log_suppress_interval", "host",
        "port", "ipv6", "retry_limit", "workers", "storage.total_limit_size", "tls", NULL
    };
    static const char *const prefixes[] = { "net.", "tls.", "oauth2", NULL };

    for (int i = 0; whole[i] != NULL; i++) {
        if (strcasecmp(key, whole[i]) == 0) {
            return 1;
        }
    }
    for (int i = 0; prefixes[i] != NULL; i++) {
        if (strncasecmp(key, prefixes[i], strlen(prefixes[i])) == 0) {
            return 1;
        }
    }
    return 0;
}

static void add_property(struct instance *ins, const char *text)
{
    const char *equals = strchr(text, '=');
    struct property *p;

    if (equals == NULL || equals == text) {
        die(2, "--instance: %s is not KEY=VALUE", text);
    }
    ins->properties = need(realloc(ins->properties,
                                   (ins->property_count + 1) * sizeof(*ins->properties)));
    p = &ins->properties[ins->property_count++];
    p->key = need(strndup(text, (size_t) (equals - text)));
    p->value = need(strdup(equals + 1));
    if (strcasecmp(p->key, "log_level") == 0) {
        ins->log_level = parse_level(p->value);
    }
    else if (strcasecmp(p->key, "alias") == 0) {
        ins->alias = p->value;
    }
    else if (strcasecmp(p->key, "workers") == 0) {
        ins->workers = atoi(p->value);
    }
}

static void read_file(struct chunk *c)
{
    size_t capacity = 0;
    size_t n;
    FILE *f = fopen(c->file, "rb");

    if (f == NULL) {
        die(2, "--chunk: %s: %s", c->file, strerror(errno));
    }
    do {
        capacity = capacity * 2 + 65536;
        c->bytes = need(realloc(c->bytes, capacity));
        n = fread(c->bytes + c->size, 1, capacity - c->size, f);
        c->size += n;
    } while (n > 0);
    if (ferror(f)) {
        die(2, "--chunk: %s: cannot be read", c->file);
    }
    fclose(f);
}

static void add_chunk(const char *text)
{
    struct chunk *c;
    const char *equals;
    size_t digits;

    if (text == NULL) {
        die(2, "--chunk needs [I:]TAG=FILE");
    }
    options.chunks = need(realloc(options.chunks,
                                  (size_t) (options.chunk_count + 1) * sizeof(*options.chunks)));
    c = &options.chunks[options.chunk_count++];
    memset(c, 0, sizeof(*c));
    c->number = options.chunk_count - 1;
    c->instance = -1;
    digits = strspn(text, "0123456789");
    if (digits > 0 && digits < 7 && text[digits] == ':') {
        c->instance = atoi(text);
        text += digits + 1;
    }
    equals = strchr(text, '=');
    if (equals == NULL || equals[1] == '\0') {
        die(2, "--chunk: %s is not [I:]TAG=FILE", text);
    }
    c->tag = need(strndup(text, (size_t) (equals - text)));
    c->file = need(strdup(equals + 1));
    read_file(c);
}

static void parse_options(int argc, char **argv)
{
    const int most = 1000000;

    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        const char *next = argv[i + 1];              /* NULL at the end */

        if (strcmp(word, "--help") == 0) {
            fputs(usage_text, stdout);
            exit(0);
        }
        else if (strcmp(word, "--dry-run") == 0) {
            options.dry_run = 1;
        }
        else if (strcmp(word, "--daemon") == 0) {
            options.daemon = 1;
        }
        else if (strcmp(word, "--children") == 0) {
            options.children = 1;
        }
        else if (strcmp(word, "--signals") == 0) {
            options.signals = 1;
        }
        else if (strcmp(word, "--crash") == 0) {
            options.crash = 1;
        }
        else if (strcmp(word, "--expect-ok") == 0) {
            options.expect_ok = 1;
        }
        else if (strcmp(word, "--exit-early") == 0) {
            options.exit_early = 1;
        }
        else if (strcmp(word, "--instance") == 0) {
            struct instance *ins;

            options.instances = need(realloc(options.instances,
                (size_t) (options.instance_count + 1) * sizeof(*options.instances)));
            ins = &options.instances[options.instance_count++];
            memset(ins, 0, sizeof(*ins));
            while (argv[i + 1] != NULL && strncmp(argv[i + 1], "--", 2) != 0) {
                add_property(ins, argv[++i]);
            }
        }
        else if (strncmp(word, "--", 2) != 0) {
            if (options.plugin != NULL) {
                die(2, "%s: there is a plugin already: %s", word, options.plugin);
            }
            options.plugin = word;
        }
        else {
            i++;                                     /* the rest have a value */
            if (strcmp(word, "--threads") == 0) {
                options.threads = parse_number(word, next, 0, 1000);
            }
            else if (strcmp(word, "--repeat") == 0) {
                options.repeat = parse_number(word, next, 1, most);
            }
            else if (strcmp(word, "--retry") == 0) {
                options.retry = parse_number(word, next, 0, most);
            }
            else if (strcmp(word, "--retry-wait") == 0) {
                options.retry_wait_ms = parse_number(word, next, 0, most);
            }
            else if (strcmp(word, "--rounds") == 0) {
                options.rounds = parse_number(word, next, 1, most);
            }
            else if (strcmp(word, "--coroutine-stack") == 0) {
                options.coroutine_stack = (size_t) parse_number(word, next, 8192, 64 << 20);
            }
            else if (strcmp(word, "--log-level") == 0) {
                options.log_level = parse_level(next);
            }
            else if (strcmp(word, "--twin") == 0) {
                if (options.twin_count == MAX_TWINS) {
                    die(2, "--twin: at most %d", MAX_TWINS);
                }
                options.twins[options.twin_count++] = next ? next : "";
            }
            else if (strcmp(word, "--chunk") == 0) {
                add_chunk(next);
            }
            else if (strcmp(word, "--stream") == 0) {
                options.stream = next ? next : "";
            }
            else {
                die(2, "%s: no such option; see --help", word);
            }
        }
    }
#ifdef _WIN32
    if (options.coroutine_stack > 0 || options.daemon || options.children || options.signals) {
        die(2, "--coroutine-stack, --daemon, --children and --signals do not exist on Windows");
    }
#endif
    if (options.plugin == NULL) {
        die(2, "no plugin given; see --help");
    }
    if (options.instance_count == 0) {
        die(2, "no --instance given; see --help");
    }
    if (options.twin_count > 0 && (options.stream != NULL || options.daemon || options.signals
                                 || options.children)) {
        die(2, "--twin goes with none of --stream, --daemon, --signals and --children");
    }
    if (options.stream != NULL && options.rounds > 1) {
        die(2, "--stream can be read once: --rounds has to be 1");
    }
    for (int i = 0; i < options.chunk_count; i++) {
        if (options.chunks[i].instance >= options.instance_count) {
            die(2, "--chunk %d:%s: there are only %d instances", options.chunks[i].instance,
                options.chunks[i].tag, options.instance_count);
        }
    }
}

/* ---- what the engine offers to the plugin ----------------------------- */

/* Ends the host: the plugin has used the engine as it must not. */
#define wrong(...) die(3, "wrong use of the engine: " __VA_ARGS__)


static const char *output_get_property(const char *key, struct instance *ins)
{
    if (ins != NULL && ins->closed) {
        wrong("option %s is read after the worker threads were created", key ? key : "(null)");
    }
    if (key == NULL || *key == '\0' || ins == NULL || engine_keeps(key)) {
        return NULL;
    }
    for (size_t i = 0; i < ins->property_count; i++) {
        if (strcasecmp(ins->properties[i].key, key) == 0) {
            return ins->properties[i].value[0] ? ins->properties[i].value : NULL;
        }
    }
    return NULL;
}

ENGINE_EXPORT __attribute__((format(printf, 4, 5)))
void flb_log_print(int level, const char *file, int line, const char *format, ...);
ENGINE_EXPORT int flb_output_log_check(struct instance *ins, int level);
const char *flb_output_name(struct instance *ins);

/*
 * Does not filter, as the engine's does not; cuts at its 4 KB, and takes as
 * much of the coroutine's stack as the engine does at its worst: two buffers,
 * and what fprintf needs.
 */
ENGINE_EXPORT void flb_log_print(int level, const char *file, int line, const char *format, ...)
{
    static const char *const names[] = { "error", " warn", " info", "debug", "trace" };
    char body[4096];
    char message[4096];
    char when[32];
    struct timespec now;
    struct tm local;
    va_list args;
    int n;

    (void) file;
    (void) line;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    strftime(when, sizeof(when), "%Y/%m/%d %H:%M:%S", &local);
    n = snprintf(message, sizeof(message), "[%s] [%s] ", when,
                 level >= LOG_ERROR && level <= LOG_TRACE ? names[level - LOG_ERROR] : "?");
    va_start(args, format);
    vsnprintf(body, sizeof(body) - (size_t) n - 1, format, args);
    va_end(args);
    strcpy(message + n, body);
    fprintf(stderr, "%s\n", message);
}

/* Every engine exports this: the alias, else the plugin's name and a number. */
const char *flb_output_name(struct instance *ins)
{
    return ins->name;
}

ENGINE_EXPORT int flb_output_log_check(struct instance *ins, int level)
{
    int most = ins != NULL && ins->log_level != 0 ? ins->log_level : options.log_level;

    return most >= level;
}

static const char *no_property(const char *key, void *ins)
{
    (void) key;
    (void) ins;
    return NULL;
}

static void *no_metrics(void *ins)
{
    (void) ins;
    return NULL;
}

static void *no_output_metrics(struct instance *ins)
{
    return no_metrics(ins);
}

static int other_log_check(void *ins, int level)
{
    (void) ins;
    return options.log_level >= level;
}

/* ---- worker threads ---------------------------------------------------- */

/* include/fluent-bit/flb_lib.h */
struct flb_lib_ctx {
    int status;
    void *event_loop;
    void *event_channel;
    void *config;
};

/* The engine's own thread has a context, and no other thread. */
static _Thread_local struct flb_lib_ctx *active_context;

/* The instance whose Init runs on this thread. */
static _Thread_local struct instance *initializing;

ENGINE_EXPORT struct flb_lib_ctx *flb_context_get(void);
ENGINE_EXPORT int flb_output_enable_multi_threading(struct instance *ins, void *config);
ENGINE_EXPORT int flb_output_set_property(struct instance *ins, const char *key, const char *value);
ENGINE_EXPORT void *flb_output_thread_instance_get(void);
ENGINE_EXPORT void flb_output_thread_instance_set(void *thread);
ENGINE_EXPORT int flb_output_flush_id_get(struct instance *ins);

/* What a worker knows of itself: struct flb_out_thread_instance has its number of
 * the next flush after some 200 bytes. */
struct worker {
    char other[200];
    int flush_id;
};
static _Thread_local struct worker *this_worker;

ENGINE_EXPORT void *flb_output_thread_instance_get(void)
{
    return this_worker;
}

ENGINE_EXPORT void flb_output_thread_instance_set(void *thread)
{
    this_worker = thread;
}

ENGINE_EXPORT int flb_output_flush_id_get(struct instance *ins)
{
    return ins->pools != NULL ? this_worker->flush_id++ : ins->flush_id++;
}

ENGINE_EXPORT struct flb_lib_ctx *flb_context_get(void)
{
    return active_context;
}

#ifndef _WIN32
/* The stack of a thread of the host, by note_stack: see on_signal. */
static _Thread_local uintptr_t stack_begin, stack_end;

static void note_stack(void)
{
    pthread_attr_t attributes;
    sigset_t none;
    void *begin = NULL;
    size_t size = 0;

    if (pthread_getattr_np(pthread_self(), &attributes) != 0
        || pthread_attr_getstack(&attributes, &begin, &size) != 0) {
        die(3, "the stack of a thread is not known");
    }
    pthread_attr_destroy(&attributes);
    stack_begin = (uintptr_t) begin;
    stack_end = stack_begin + size;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
}

/* The plugin has to leave the threads of the engine as they are. */
static void check_mask(const char *when)
{
    sigset_t now;

    pthread_sigmask(SIG_BLOCK, NULL, &now);
    for (int number = 1; number < SIGRTMIN; number++) {
        if (sigismember(&now, number) == 1) {
            wrong("signal %d is blocked %s", number, when);
        }
    }
}

/* Creates a thread whose main function calls note_stack, without signals before that. */
static void start(pthread_t *thread, void *(*main)(void *), void *argument)
{
    sigset_t all;
    int error;

    check_mask("on a thread that creates threads");
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    error = pthread_create(thread, NULL, main, argument);
    sigemptyset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    if (error != 0) {
        die(3, "pthread_create: %s", strerror(error));
    }
}
#endif

static void *wait_for_stop(void *pool)
{
    char byte;

    /* the engine's "flb-out-NAME.0-w0", cut to 15 bytes as the kernel does */
    pthread_setname_np(pthread_self(), "flb-out-abihost");
    note_stack();
    while (read(((struct pool *) pool)->stop[0], &byte, 1) < 0 && errno == EINTR) {
    }
    return NULL;
}

/* Creates a pool of ins->workers threads, if that is above 0. A pool that is
 * there already is not stopped, as the engine does not. */
static void create_pool(struct instance *ins)
{
    struct pool *pool;

    if (ins->workers <= 0) {
        return;
    }
    pool = need(calloc(1, sizeof(*pool)));
    pool->threads = need(calloc((size_t) ins->workers, sizeof(*pool->threads)));
    if (pipe2(pool->stop, O_CLOEXEC) != 0) {
        die(3, "pipe: %s", strerror(errno));
    }
    for (; pool->count < ins->workers; pool->count++) {
        start(&pool->threads[pool->count], wait_for_stop, pool);
    }
    pool->next = ins->pools;
    ins->pools = pool;
}

/* Ends the threads of all pools, also of those that an engine would forget. */
static void destroy_pools(struct instance *ins)
{
    while (ins->pools != NULL) {
        struct pool *pool = ins->pools;

        ins->pools = pool->next;
        close(pool->stop[1]);
        for (int i = 0; i < pool->count; i++) {
            pthread_join(pool->threads[i], NULL);
        }
        close(pool->stop[0]);
        free(pool->threads);
        free(pool);
    }
    ins->by_plugin = 0;
}

static int count_pools(const struct instance *ins, int *threads)
{
    int count = 0;

    *threads = 0;
    for (const struct pool *pool = ins->pools; pool != NULL; pool = pool->next) {
        *threads += pool->count;
        count++;
    }
    return count;
}

/* What both of these functions need: they are the last that Init calls, for the
 * instance that it was called for, on the engine's thread. */
static void check_caller(const char *function, const struct instance *ins)
{
    if (active_context == NULL || initializing == NULL) {
        wrong("%s outside Init, or on another thread than the engine's", function);
    }
    if (ins != initializing) {
        wrong("%s for another instance than the one of this Init", function);
    }
    if (ins->context->remote_context == NULL) {
        wrong("%s before the instance has its context: not the last step of Init", function);
    }
}

ENGINE_EXPORT int flb_output_enable_multi_threading(struct instance *ins, void *config)
{
    check_caller("flb_output_enable_multi_threading", ins);
    if (config != active_context->config) {
        wrong("flb_output_enable_multi_threading with another configuration");
    }
    if (ins->pools != NULL) {
        wrong("flb_output_enable_multi_threading for an instance that has a thread pool");
    }
    ins->closed = 1;
    ins->by_plugin += ins->workers > 0;
    create_pool(ins);
    return 0;
}

/* Only for `workers`, which the plugin may set to 1 as long as there is no pool,
 * and to 0 afterwards. */
ENGINE_EXPORT int flb_output_set_property(struct instance *ins, const char *key, const char *value)
{
    const char *want = ins->pools == NULL ? "1" : "0";

    check_caller("flb_output_set_property", ins);
    if (strcasecmp(key, "workers") != 0) {
        wrong("flb_output_set_property of %s", key);
    }
    if (!ins->closed) {
        wrong("flb_output_set_property before flb_output_enable_multi_threading");
    }
    if (strcmp(value, want) != 0) {
        wrong("flb_output_set_property of workers to %s, want %s", value, want);
    }
    ins->workers = atoi(value);
    return 0;
}

#ifndef _WIN32
/*
 * guarded returns zeroed memory that ends where a page without access begins:
 * a plugin that believes in a longer structure than this engine has dies
 * there and then. unguard takes it back.
 */
static void *guarded(size_t size)
{
    const size_t page = (size_t) sysconf(_SC_PAGESIZE);
    const size_t aligned = (size + 7) & ~(size_t) 7;
    unsigned char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED || mprotect(p + page, page, PROT_NONE) != 0) {
        die(3, "mmap: %s", strerror(errno));
    }
    return p + page - aligned;
}

static void unguard(void *p)
{
    const size_t page = (size_t) sysconf(_SC_PAGESIZE);

    munmap((void *) ((uintptr_t) p & ~(page - 1)), 2 * page);
}
#endif

/* ---- reporting -------------------------------------------------------- */

static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;

/* Prints " key=value" with the bytes escaped that a reader would trip over. */
static void report_text(const char *key, const char *value)
{
    fprintf(report, " %s=", key);
    for (const unsigned char *p = (const unsigned char *) value; *p != '\0'; p++) {
        if (*p <= ' ' || *p == '%' || *p >= 0x7f) {
            fprintf(report, "%%%02X", *p);
        }
        else {
            fputc(*p, report);
        }
    }
}

static void report_end(void)
{
    fputc('\n', report);
    fflush(report);
}

static long long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#ifndef _WIN32
static long status_number(const char *name)
{
    char line[256];
    long n = -1;
    FILE *f = fopen("/proc/self/status", "r");

    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            n = strtol(line + strlen(name), NULL, 10);
            break;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return n;
}

static int open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");

    if (d == NULL) {
        return -1;
    }
    while (readdir(d) != NULL) {
        n++;
    }
    closedir(d);
    return n - 3;                                    /* ".", "..", d itself */
}
#endif

/* ---- one round -------------------------------------------------------- */

typedef int (*int_call)(int);
typedef void (*void_call)(int);

struct plugin {
    int round;
    const char *path;
    struct instance *instances;                      /* a copy of the options' */
    void *dso;
    struct flb_plugin_proxy_def *def;
    struct flb_api *api;
    struct flbgo_output_plugin go;
    /* calls that an engine makes only if they are there */
    int_call pre_register;
    int_call pre_run;
    void_call pre_exit;
    int (*do_register)(struct flb_plugin_proxy_def *);
    void (*unregister)(struct flb_plugin_proxy_def *);
};

struct job {
    int instance;
    const struct chunk *chunk;
};

/* The flushes to come: first the jobs, then what the stream holds. */
struct queue {
    struct plugin *plugin;
    struct job *jobs;
    size_t count;
    size_t next;
    FILE *stream;
    int streamed;
    int closed;
    pthread_mutex_t lock;
};

static struct {
    long ok, error, retry, skipped;
    int broken;
} outcome;

/* dlsym gives an object pointer; C has no cast from it to a function. */
static void symbol(struct plugin *p, const char *name, void *function)
{
    void *address = dlsym(p->dso, name);

    memcpy(function, &address, sizeof(address));
}

static void load(struct plugin *p)
{
    p->dso = dlopen(p->path, RTLD_LAZY);
    if (p->dso == NULL) {
        die(3, "%s", dlerror());
    }
    check_mask("after the plugin was loaded");
    if (!ENGINE_IS_OLD) {
        symbol(p, "FLBPluginPreRegister", &p->pre_register);
        symbol(p, "FLBPluginOutputPreRun", &p->pre_run);
        symbol(p, "FLBPluginOutputPreExit", &p->pre_exit);
    }
    symbol(p, "FLBPluginRegister", &p->do_register);
    symbol(p, "FLBPluginUnregister", &p->unregister);
    symbol(p, "FLBPluginInit", &p->go.cb_init);
    symbol(p, "FLBPluginFlush", &p->go.cb_flush);
    symbol(p, "FLBPluginFlushCtx", &p->go.cb_flush_ctx);
    symbol(p, "FLBPluginExit", &p->go.cb_exit);
    symbol(p, "FLBPluginExitCtx", &p->go.cb_exit_ctx);

    p->api = guarded(api_size);
    p->api->output_get_property = output_get_property;
#ifndef ABIHOST_OLD_ENGINE
    p->api->input_get_property = no_property;
    p->api->output_get_cmt_instance = no_output_metrics;
    p->api->input_get_cmt_instance = no_metrics;
    p->api->log_print = flb_log_print;
    p->api->input_log_check = other_log_check;
    p->api->output_log_check = flb_output_log_check;
    p->api->custom_get_property = no_property;
    p->api->custom_log_check = other_log_check;
#else
    (void) no_property;
    (void) no_output_metrics;
    (void) other_log_check;
    (void) flb_log_print;
    (void) flb_output_log_check;
    (void) flb_context_get;
    (void) flb_output_enable_multi_threading;
    (void) flb_output_set_property;
    (void) flb_output_thread_instance_get;
    (void) flb_output_thread_instance_set;
    (void) flb_output_flush_id_get;
#endif
    p->def = guarded(def_size);
    p->def->type = PROXY_OUTPUT_PLUGIN;
}

static void register_plugin(struct plugin *p)
{
    int ret = 0;

    if (p->pre_register != NULL) {
        ret = p->pre_register(p->round > 1);
    }
    if (ret != -1) {
        if (p->do_register == NULL) {
            die(3, "%s: no FLBPluginRegister", p->path);
        }
        ret = p->do_register(p->def);
    }
    fprintf(report, "register round=%d ret=%d", p->round, ret);
    report_text("name", p->def->name ? p->def->name : "");
    report_end();
    if (ret == -1 || p->def->name == NULL) {
        die(3, "%s: does not register", p->path);
    }
    if (p->def->type != PROXY_OUTPUT_PLUGIN || p->def->proxy != PROXY_GOLANG) {
        die(3, "%s: is not an output plugin in Go", p->path);
    }
    if (p->go.cb_init == NULL || (p->go.cb_flush_ctx == NULL && p->go.cb_flush == NULL)) {
        die(3, "%s: no FLBPluginInit or no FLBPluginFlushCtx", p->path);
    }
    p->go.name = need(strdup(p->def->name));
}

static void init_instances(struct plugin *p)
{
    for (int i = 0; i < options.instance_count; i++) {
        struct instance *ins = &p->instances[i];
        long long begin;
        int ret;

        ins->initialized = 0;
        if (ins->alias != NULL) {
            snprintf(ins->name, sizeof(ins->name), "%s", ins->alias);
        }
        else {
            snprintf(ins->name, sizeof(ins->name), "%s.%d", p->go.name, i);
        }
        ins->context = need(calloc(1, sizeof(*ins->context)));
        ins->context->proxy = p;
        if (options.dry_run) {
            continue;
        }
        p->go.api = p->api;
        p->go.o_ins = ins;
        p->go.context = ins->context;
        initializing = ins;
        begin = now_ms();
        ret = p->go.cb_init(&p->go);
        initializing = NULL;
        ins->initialized = ret > 0;
        if (this_worker != NULL) {
            wrong("Init leaves the engine's thread posing as a worker");
        }
        if (!ins->initialized && ins->pools != NULL) {
            wrong("an Init that failed has created worker threads");
        }
        pthread_mutex_lock(&report_lock);
        fprintf(report, "init round=%d instance=%d ret=%d outcome=%s ms=%lld", p->round, i, ret,
                ins->initialized ? "OK" : "FAILED", now_ms() - begin);
        report_end();
        if (ins->initialized) {
            int threads;
            int pools;

            /* flb_proxy_output_cb_init, and then flb_output_init_all */
            create_pool(ins);
            create_pool(ins);
            pools = count_pools(ins, &threads);
            fprintf(report, "workers round=%d instance=%d pools=%d by_plugin=%d threads=%d", p->round, i,
                    pools, ins->by_plugin, threads);
            report_end();
        }
        pthread_mutex_unlock(&report_lock);
    }
    for (int i = 0; i < options.instance_count && !options.dry_run; i++) {
        if (p->pre_run != NULL) {
            p->pre_run(0);
        }
    }
}

/* A memset that the compiler keeps although the memory is freed next. */
static void *(*const volatile poison)(void *, int, size_t) = memset;

static int flush_once(struct plugin *p, const struct job *job)
{
    const struct chunk *c = job->chunk;
    void *remote = p->instances[job->instance].context->remote_context;
    const size_t tag_size = strlen(c->tag) + 1;
    char *tag = need(malloc(tag_size));
    unsigned char *bytes = need(malloc(c->size ? c->size : 1));
    int ret;

    memcpy(tag, c->tag, tag_size);
    if (c->size > 0) {
        memcpy(bytes, c->bytes, c->size);
    }
    if (p->go.cb_flush_ctx != NULL) {
        ret = p->go.cb_flush_ctx(remote, bytes, c->size, tag);
    }
    else {
        ret = p->go.cb_flush(bytes, c->size, tag);
    }
    check_mask("after a flush");
    poison(bytes, 0xaa, c->size);
    poison(tag, 0xaa, tag_size);
    free(bytes);
    free(tag);
    return ret;
}

#ifndef _WIN32
/* A coroutine: its stack, with room below to see how far it was overrun. */
struct coroutine {
    ucontext_t back;
    ucontext_t self;
    struct plugin *plugin;
    const struct job *job;
    int ret;
};

enum { STACK_FILL = 0x5a, STACK_BELOW = 256 * 1024 };

static _Thread_local struct coroutine *running;

static void coroutine_main(void)
{
    running->ret = flush_once(running->plugin, running->job);
}

/* Runs the coroutine to its end on a stack of its own. */
static void resume(struct coroutine *co, unsigned char *stack, size_t size)
{
    running = co;
    getcontext(&co->self);
    co->self.uc_stack.ss_sp = stack;
    co->self.uc_stack.ss_size = size;
    co->self.uc_link = &co->back;
    makecontext(&co->self, coroutine_main, 0);
    swapcontext(&co->back, &co->self);
}

/* Returns what the flush returned, and in *used the bytes of stack it took. */
static int flush_on_coroutine(struct plugin *p, const struct job *job, size_t *used)
{
    const size_t total = STACK_BELOW + options.coroutine_stack;
    unsigned char *memory = need(malloc(total));
    struct coroutine co = { .plugin = p, .job = job };
    size_t untouched = 0;

    memset(memory, STACK_FILL, total);
    resume(&co, memory + STACK_BELOW, options.coroutine_stack);
    while (untouched < total && memory[untouched] == STACK_FILL) {
        untouched++;
    }
    *used = total - untouched;
    free(memory);
    return co.ret;
}
#endif

static void run_job(struct plugin *p, const struct job *job)
{
    static const char *const names[] = { "ERROR", "OK", "RETRY" };
    const struct chunk *c = job->chunk;
    size_t used = 0;
    int ret = FLB_RETRY;

    if (!p->instances[job->instance].initialized) {
        pthread_mutex_lock(&report_lock);
        fprintf(report, "skip round=%d instance=%d chunk=%d", p->round, job->instance, c->number);
        report_text("tag", c->tag);
        report_text("file", c->file);
        report_end();
        outcome.skipped++;
        pthread_mutex_unlock(&report_lock);
        return;
    }
    for (int attempt = 1; ret == FLB_RETRY && attempt <= options.retry + 1; attempt++) {
        long long begin;
        long long end;

        if (attempt > 1 && options.retry_wait_ms > 0) {
            struct timespec t = { options.retry_wait_ms / 1000,
                                  options.retry_wait_ms % 1000 * 1000000L };
            nanosleep(&t, NULL);
        }
        begin = now_ms();
        ret = options.coroutine_stack > 0 ? flush_on_coroutine(p, job, &used)
                                          : flush_once(p, job);
        end = now_ms();
        pthread_mutex_lock(&report_lock);
        fprintf(report, "flush round=%d instance=%d chunk=%d", p->round, job->instance, c->number);
        report_text("tag", c->tag);
        report_text("file", c->file);
        fprintf(report, " bytes=%zu attempt=%d", c->size, attempt);
        if (ret >= FLB_ERROR && ret <= FLB_RETRY) {
            fprintf(report, " ret=%s", names[ret]);
        }
        else {
            fprintf(report, " ret=%d", ret);
        }
        fprintf(report, " ms=%lld at=%lld", end - begin, end);
        if (options.coroutine_stack > 0) {
            fprintf(report, " stack=%zu", used);
            if (used > options.coroutine_stack) {
                fprintf(stderr, "abihost: a flush took %zu bytes of a stack of %zu\n", used,
                        options.coroutine_stack);
                outcome.broken = 1;
            }
        }
        report_end();
        pthread_mutex_unlock(&report_lock);
    }
    pthread_mutex_lock(&report_lock);
    if (ret == FLB_OK) {
        outcome.ok++;
    }
    else if (ret == FLB_RETRY) {
        outcome.retry++;
    }
    else {
        outcome.error++;
    }
    pthread_mutex_unlock(&report_lock);
}

/* Reads the next chunk of the stream, or returns 0 at its end. */
static int next_streamed(struct queue *q, struct chunk *c)
{
    char tag[256];
    int fields;

    memset(c, 0, sizeof(*c));
    if (q->stream == NULL) {
        return 0;
    }
    fields = fscanf(q->stream, "%d %255s %zu", &c->instance, tag, &c->size);
    if (fields == EOF) {
        return 0;
    }
    if (fields != 3 || fgetc(q->stream) != '\n' || c->instance < 0 || c->instance >= options.instance_count) {
        die(2, "--stream: chunk %d is not `I TAG LENGTH` and the bytes", q->streamed);
    }
    c->tag = need(strdup(tag));
    c->file = "-";
    c->bytes = need(malloc(c->size ? c->size : 1));
    c->number = q->streamed++;
    if (fread(c->bytes, 1, c->size, q->stream) != c->size) {
        die(2, "--stream: chunk %d breaks off", c->number);
    }
    return 1;
}

static void run_queue(struct queue *q)
{
    for (;;) {
        struct chunk streamed = { .bytes = NULL };
        struct job job = { .chunk = NULL };

        pthread_mutex_lock(&q->lock);
        if (!q->closed && q->next < q->count) {
            job = q->jobs[q->next++];
        }
        else if (!q->closed && next_streamed(q, &streamed)) {
            job = (struct job) { .instance = streamed.instance, .chunk = &streamed };
        }
        pthread_mutex_unlock(&q->lock);
        if (job.chunk == NULL) {
            return;
        }
        run_job(q->plugin, &job);
        free(streamed.bytes);
        free(streamed.tag);
    }
}

static void *worker(void *queue)
{
    /* the engine's "flb-out-NAME.0-w0", cut to 15 bytes as the kernel does */
    pthread_setname_np(pthread_self(), "flb-out-abihost");
    note_stack();
    run_queue(queue);
    return NULL;
}

/* ---- what else goes on in the engine's process ------------------------ */

static struct {
    atomic_int stop;                                 /* the flushes are over */
    atomic_long forked, popened, failed;
    atomic_long sent, caught, misplaced;
    pthread_t sender;
} aside;

static void spare_time(long microseconds)
{
    struct timespec t = { 0, microseconds * 1000 };

    nanosleep(&t, NULL);
}

#ifndef _WIN32
/* fork and exec, as an input does that starts a program itself. */
static void *fork_children(void *unused)
{
    (void) unused;
    note_stack();
    do {
        int status = -1;
        pid_t child = fork();

        if (child == 0) {
            execl("/bin/sh", "sh", "-c", "exit 7", (char *) NULL);
            _exit(1);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)
            || WEXITSTATUS(status) != 7) {
            aside.failed++;
        }
        aside.forked++;
        spare_time(1000);
    } while (!aside.stop);
    return NULL;
}

/* popen, as the input exec does. */
static void *popen_children(void *unused)
{
    (void) unused;
    note_stack();
    do {
        char line[16] = "";
        FILE *f = popen("echo child", "r");

        if (f == NULL || fgets(line, sizeof(line), f) == NULL || strcmp(line, "child\n") != 0
            || pclose(f) != 0) {
            aside.failed++;
        }
        aside.popened++;
        spare_time(1000);
    } while (!aside.stop);
    return NULL;
}

/* The signals that the engine handles, or whose default ends it. */
static const int engine_signals[] = { SIGHUP, SIGCONT, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 };

/* Signals that others send or handle: a profiler, a closed connection, a terminal, and
 * the Go runtime itself. */
static const int other_signals[] = { SIGPROF, SIGPIPE, SIGWINCH, SIGURG };

#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

static uintptr_t interrupted_stack(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t) context->uc_mcontext.gregs[REG_RSP];
#else
    return (uintptr_t) context->uc_mcontext.sp;
#endif
}

static void install_handlers(void);

/* As the engine's: it writes, installs all handlers again, and ends the process
 * on a fault. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    static const char fault[] = "abihost: the engine's handler caught a fault\n";
    const int error = errno;
    const uintptr_t stack = interrupted_stack(context);

    (void) info;
    install_handlers();
    if (number == SIGSEGV || number == SIGFPE) {
        if (write(STDERR_FILENO, fault, sizeof(fault) - 1) < 0) {
            _exit(4);
        }
        abort();
    }
    aside.misplaced += stack < stack_begin || stack >= stack_end;
    aside.caught++;
    errno = error;
}

static void on_profile(int number, siginfo_t *info, void *context)
{
    (void) number;
    (void) info;
    (void) context;
}

/* Without SA_ONSTACK, as the engine's signal(). A handler is not interrupted by another:
 * until it is installed again, the Go runtime's stack for handlers is in use. */
static void handle(int number, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART };

    sigfillset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

static void install_handlers(void)
{
    for (int i = 0; i < COUNT(engine_signals); i++) {
        handle(engine_signals[i], on_signal);
    }
    handle(SIGSEGV, on_signal);
    handle(SIGFPE, on_signal);
}

/* Sends each signal to the process, and to each of its threads: the kernel gives most
 * signals of the process to the main thread. */
static void *send_signals(void *unused)
{
    const int all = COUNT(engine_signals) + COUNT(other_signals);

    (void) unused;
    note_stack();
    for (int i = 0; !aside.stop; i = (i + 1) % all) {
        const int number = i < COUNT(engine_signals) ? engine_signals[i] : other_signals[i - COUNT(engine_signals)];
        DIR *threads = opendir("/proc/self/task");
        const struct dirent *thread;

        kill(getpid(), number);
        aside.sent++;
        while (threads != NULL && (thread = readdir(threads)) != NULL) {
            const int id = atoi(thread->d_name);

            if (id > 0) {
                aside.sent += syscall(SYS_tgkill, getpid(), id, number) == 0;
            }
        }
        if (threads != NULL) {
            closedir(threads);
        }
        spare_time(100);
    }
    return NULL;
}

/* How many of the signals that a Go runtime turns into panics have a handler in
 * the plugin's library. */
static int plugin_handlers(void)
{
    static const int faults[] = { SIGSEGV, SIGFPE, SIGBUS };
    int count = 0;

    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        struct sigaction action;
        Dl_info where;
        void *handler;

        sigaction(faults[i], NULL, &action);
        memcpy(&handler, &action.sa_sigaction, sizeof(handler));
        count += handler != NULL && dladdr(handler, &where) != 0 && where.dli_fname != NULL
                 && strcmp(where.dli_fname, options.plugin) == 0;
    }
    return count;
}
#endif

static void exit_instances(struct plugin *p);

/* Everything between Init and Unregister. */
static void flush_and_exit(struct plugin *p)
{
    struct queue q = { .plugin = p };
    const size_t most = (size_t) options.repeat * (size_t) options.chunk_count
                        * (size_t) options.instance_count;
    pthread_t *threads = need(calloc((size_t) options.threads + 1, sizeof(*threads)));

    pthread_mutex_init(&q.lock, NULL);
    q.jobs = need(calloc(most + 1, sizeof(*q.jobs)));
    for (int r = 0; r < options.repeat; r++) {
        for (int c = 0; c < options.chunk_count; c++) {
            for (int i = 0; i < options.instance_count; i++) {
                if (options.chunks[c].instance == -1 || options.chunks[c].instance == i) {
                    q.jobs[q.count++] = (struct job) { .instance = i, .chunk = &options.chunks[c] };
                }
            }
        }
    }
    if (options.stream != NULL) {
        q.stream = fopen(options.stream, "rb");
        if (q.stream == NULL) {
            die(2, "--stream: %s: %s", options.stream, strerror(errno));
        }
    }
    if (options.threads == 0) {
        run_queue(&q);
    }
    for (int t = 0; t < options.threads; t++) {
        start(&threads[t], worker, &q);
    }
    if (options.exit_early) {
        while (getchar() != EOF) {
        }
        pthread_mutex_lock(&q.lock);
        q.closed = 1;
        pthread_mutex_unlock(&q.lock);
        exit_instances(p);
    }
    for (int t = 0; t < options.threads; t++) {
        pthread_join(threads[t], NULL);
    }
    if (options.signals) {
        /* After the last signal, the plugin gets one more chance: an empty chunk. */
        const struct chunk empty = { .tag = "signals" };
        const struct job last = { .chunk = &empty };

        aside.stop = 1;
        pthread_join(aside.sender, NULL);
        flush_once(p, &last);
        /* The main thread may have run a handler for the last signal after that. */
        for (int late = 0; late < 100 && plugin_handlers() < 3; late++) {
            spare_time(10000);
            flush_once(p, &last);
        }
        fprintf(report, "signals round=%d sent=%ld caught=%ld misplaced=%ld plugin_has=%d", p->round,
                aside.sent, aside.caught, aside.misplaced, plugin_handlers());
        report_end();
    }
    if (options.crash) {
        /* Not through a pointer that the compiler knows to be NULL. */
        int *volatile nowhere = NULL;
        *nowhere = 1;
    }
    if (!options.exit_early) {
        exit_instances(p);
    }
    if (q.stream != NULL) {
        fclose(q.stream);
    }
    for (int i = 0; i < options.instance_count; i++) {
        free(p->instances[i].context);
        p->instances[i].context = NULL;
    }
    pthread_mutex_destroy(&q.lock);
    free(threads);
    free(q.jobs);
}

static void exit_instances(struct plugin *p)
{
    pthread_mutex_lock(&report_lock);
    fprintf(report, "exiting round=%d", p->round);
    report_end();
    pthread_mutex_unlock(&report_lock);
    for (int i = 0; i < options.instance_count; i++) {
        struct instance *ins = &p->instances[i];
        const int set = ins->context->remote_context != NULL;
        const long long begin = now_ms();
        long long end;
        int ret = 0;

        destroy_pools(ins);
        if (p->pre_exit != NULL) {
            p->pre_exit(p->round < options.rounds);
        }
        if (p->go.cb_exit_ctx != NULL) {
            ret = p->go.cb_exit_ctx(ins->context->remote_context);
        }
        else if (p->go.cb_exit != NULL) {
            ret = p->go.cb_exit();
        }
        end = now_ms();
        pthread_mutex_lock(&report_lock);
        fprintf(report, "exit round=%d instance=%d context=%s ret=%d ms=%lld at=%lld", p->round, i,
                set ? "SET" : "NULL", ret, end - begin, end);
        report_end();
        pthread_mutex_unlock(&report_lock);
    }
}

/* Runs main while children are started and signals come in. */
static void beside_children_and_signals(struct plugin *p, void (*main)(struct plugin *))
{
    pthread_t threads[2];
    int count = 0;

    aside.stop = 0;
    if (options.children) {
        start(&threads[count++], fork_children, NULL);
        start(&threads[count++], popen_children, NULL);
    }
    if (options.signals) {
        start(&aside.sender, send_signals, NULL);
    }
    main(p);
    aside.stop = 1;
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    if (options.children) {
        fprintf(report, "children round=%d forked=%ld popened=%ld failed=%ld", p->round,
                aside.forked, aside.popened, aside.failed);
        report_end();
    }
}

/* The engine's thread: everything between Register and Unregister. */
static void *pipeline(void *plugin)
{
    struct flb_lib_ctx context = { .config = plugin };

    pthread_setname_np(pthread_self(), "flb-pipeline");
    note_stack();
    active_context = &context;
    init_instances(plugin);
    if (options.dry_run) {
        options.chunk_count = 0;
        options.stream = NULL;
    }
    beside_children_and_signals(plugin, flush_and_exit);
    return NULL;
}

#ifndef _WIN32
/* As the engine does for `daemon on`, but for the parent's exit code. */
static void become_daemon(void)
{
    int status;
    pid_t child = fork();

    if (child < 0) {
        die(3, "fork: %s", strerror(errno));
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);            /* a test that gives up kills the parent */
        close(STDERR_FILENO);
        return;
    }
    if (waitpid(child, &status, 0) != child) {
        die(3, "waitpid: %s", strerror(errno));
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
}
#endif

static void begin(struct plugin *p, int round, const char *path)
{
    const size_t size = (size_t) options.instance_count * sizeof(*p->instances);

    p->round = round;
    p->path = path;
    p->instances = need(malloc(size));
    memcpy(p->instances, options.instances, size);
    load(p);
    register_plugin(p);
}

static void end(struct plugin *p)
{
    if (p->unregister != NULL) {
        p->unregister(p->def);
    }
    fprintf(report, "unregister round=%d", p->round);
    report_end();
    free(p->go.name);
    dlclose(p->dso);
    unguard(p->api);
    unguard(p->def);
    free(p->instances);
}

static void run_round(int round)
{
    struct plugin plugins[1 + MAX_TWINS] = { { .round = 0 } };
    pthread_t engines[1 + MAX_TWINS];
    const int count = 1 + options.twin_count;

    for (int i = 0; i < count; i++) {
        begin(&plugins[i], round, i == 0 ? options.plugin : options.twins[i - 1]);
    }
    if (options.daemon) {
        become_daemon();
    }
    for (int i = 0; i < count; i++) {
        start(&engines[i], pipeline, &plugins[i]);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(engines[i], NULL);
    }
    for (int i = 0; i < count; i++) {
        end(&plugins[i]);
    }
    fprintf(report, "round n=%d rss_kib=%ld peak_kib=%ld threads=%ld fds=%d", round,
            status_number("VmRSS:"), status_number("VmHWM:"), status_number("Threads:"), open_fds());
    report_end();
}

/*
 * From here on file descriptor 1 is a file of the host's own, and the report
 * goes to what it was: so what a plugin writes to stdout can be seen.
 */
static FILE *take_stdout(void)
{
    FILE *caught = need(tmpfile());
    int original = dup(STDOUT_FILENO);

    if (original < 0 || dup2(fileno(caught), STDOUT_FILENO) < 0) {
        die(3, "stdout: %s", strerror(errno));
    }
    fcntl(original, F_SETFD, FD_CLOEXEC);
    report = need(fdopen(original, "w"));
    return caught;
}

static long show_caught(FILE *caught)
{
    char buffer[4096];
    long total = 0;
    size_t n;

    fflush(stdout);
    rewind(caught);
    while ((n = fread(buffer, 1, sizeof(buffer), caught)) > 0) {
        if (total == 0) {
            fputs("abihost: the plugin wrote to stdout:\n", stderr);
        }
        fwrite(buffer, 1, n, stderr);
        total += (long) n;
    }
    return total;
}

int main(int argc, char **argv)
{
    FILE *caught;

    parse_options(argc, argv);
#ifndef _WIN32
    signal(SIGPIPE, SIG_IGN);                        /* as the engine does */
    if (options.signals) {
        note_stack();
        install_handlers();
        handle(SIGPROF, on_profile);
    }
#endif
    caught = take_stdout();
    for (int round = 1; round <= options.rounds; round++) {
        run_round(round);
    }
    fprintf(report, "end ok=%ld error=%ld retry=%ld skipped=%ld plugin_stdout_bytes=%ld",
            outcome.ok, outcome.error, outcome.retry, outcome.skipped, show_caught(caught));
    report_end();
    if (outcome.broken) {
        return 3;
    }
    if (options.expect_ok && outcome.error + outcome.retry + outcome.skipped > 0) {
        return 1;
    }
    return 0;
}
