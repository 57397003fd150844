/* Real Redis servers and sentinels for tests: each on a free loopback port in a
 * folder of its own, ended by its process id. */
#ifndef SPEC_REDIS_SERVER_H
#define SPEC_REDIS_SERVER_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct redis_server {
    pid_t pid; /* 0 = none */
    int port;
    char folder[64];
    char address[64];
    char unix_address[96];
} redis_server;

/* The program, which goes by the name it is called; NULL when there is none. */
static inline const char *redis_program(void)
{
    static const char *const places[] = {"/usr/bin/redis-server",
                                         "/usr/bin/redis-check-rdb",
                                         "/usr/local/bin/redis-server", NULL};

    for (const char *const *p = places; *p != NULL; p++)
        if (access(*p, X_OK) == 0)
            return *p;
    return NULL;
}

static inline int redis_socket(int port, int listens)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    rc = listens ? bind(fd, (struct sockaddr *)&at, sizeof at)
                 : connect(fd, (struct sockaddr *)&at, sizeof at);
    if (rc == 0)
        return fd;
    close(fd);
    return -1;
}

static inline int redis_free_port(void)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    int fd = redis_socket(0, 1);

    if (fd < 0 || getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        return -1;
    close(fd);
    return ntohs(at.sin_port);
}

static inline int redis_wait_port(int port)
{
    for (int i = 0; i < 500; i++) {
        struct timespec pause = {.tv_nsec = 10000000};
        int fd = redis_socket(port, 0);
        if (fd >= 0) {
            close(fd);
            return 1;
        }
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* Starts one with the lines of a configuration beside the usual ones. Answers 0
 * when it does not come up. */
static inline int redis_start(redis_server *s, int is_sentinel,
                              const char *lines)
{
    char program[128], config[128], log[128];
    FILE *file;

    memset(s, 0, sizeof *s);
    snprintf(s->folder, sizeof s->folder, "/tmp/orrery-redis-XXXXXX");
    s->port = redis_free_port();
    if (redis_program() == NULL || s->port < 0 || mkdtemp(s->folder) == NULL)
        return 0;
    snprintf(s->address, sizeof s->address, "127.0.0.1:%d", s->port);
    snprintf(s->unix_address, sizeof s->unix_address, "unix:%s/s", s->folder);
    snprintf(program, sizeof program, "%s/redis-%s", s->folder,
             is_sentinel ? "sentinel" : "server");
    snprintf(config, sizeof config, "%s/conf", s->folder);
    snprintf(log, sizeof log, "%s/log", s->folder);
    file = fopen(config, "w");
    if (file == NULL || symlink(redis_program(), program) != 0)
        return 0;
    fprintf(file, "port %d\nbind 127.0.0.1\ndir %s\nlogfile %s\n", s->port,
            s->folder, log);
    if (!is_sentinel)
        fprintf(file,
                "save \"\"\nunixsocket %s\nenable-debug-command yes\n"
                "repl-diskless-sync-delay 0\n",
                s->unix_address + 5);
    fprintf(file, "%s\n", lines);
    fclose(file);
    s->pid = fork();
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(program, program, config, (char *)NULL);
        _exit(127);
    }
    return s->pid > 0 && redis_wait_port(s->port);
}

static inline void redis_kill(redis_server *s)
{
    if (s->pid <= 0)
        return;
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

static inline void redis_stop(redis_server *s)
{
    static const char *const names[] = {
        "redis-server", "redis-sentinel", "conf", "log", "s", "dump.rdb", NULL};
    char path[128];

    redis_kill(s);
    if (s->folder[0] == '\0')
        return;
    for (const char *const *n = names; *n != NULL; n++) {
        snprintf(path, sizeof path, "%s/%s", s->folder, *n);
        unlink(path);
    }
    rmdir(s->folder);
    s->folder[0] = '\0';
}

#endif
