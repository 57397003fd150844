/* Baseline of a large body over TCP: two processes with blocking sockets on the
 * loopback. One round: the parent writes `size` bytes from a buffer of that
 * size, `piece` at a time; the child reads them into a buffer of that size of
 * its own, touches nothing, and says one byte back.
 */
#define _GNU_SOURCE 1

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raw.h"

static const char usage[] =
    "[--size BYTES] [--piece BYTES] [--rounds N] [--warmup N]\n"
    "  --size    bytes of a round, 1..1073741824 (104857600)\n"
    "  --piece   bytes of a write, 1..16777216 (262144)\n"
    "  --rounds  rounds to measure (5)\n"
    "  --warmup  rounds before (1)\n"
    "prints tcp_bulk_p50, tcp_bulk_p99 in ns a round and tcp_bulk_rate in 1/s";

static void write_all(int fd, const uint8_t *data, size_t size, size_t piece)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size < piece ? size : piece);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            raw_fail("write", strerror(errno));
        data += n;
        size -= (size_t)n;
    }
}

static int read_all(int fd, uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = read(fd, data, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            raw_fail("read", strerror(errno));
        if (n == 0)
            return 0;
        data += n;
        size -= (size_t)n;
    }
    return 1;
}

static void serve(int listener, size_t size)
{
    uint8_t *buffer = raw_alloc(1, size), done = 1;
    int fd = accept(listener, NULL, NULL);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (fd < 0)
        raw_fail("accept", strerror(errno));
    while (read_all(fd, buffer, size))
        write_all(fd, &done, 1, 1);
    _exit(0);
}

int main(int argc, char **argv)
{
    static const char *const known[] = {"--size", "--piece", "--rounds",
                                        "--warmup", NULL};
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int on = 1;

    raw_usage(argc, argv, usage, known);
    size_t size = raw_option(argc, argv, "--size", 100 << 20, 1, 1 << 30);
    size_t piece = raw_option(argc, argv, "--piece", 256 << 10, 1, 16 << 20);
    size_t rounds = raw_option(argc, argv, "--rounds", 5, 1, 100000);
    size_t warmup = raw_option(argc, argv, "--warmup", 1, 0, 100000);
    uint64_t *samples = raw_alloc(rounds, sizeof *samples), started = 0;
    uint8_t *data = raw_alloc(1, size), done;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memset(data, 'x', size);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, len) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) != 0)
        raw_fail("listen", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        raw_fail("fork", strerror(errno));
    if (child == 0)
        serve(listener, size);
    close(listener);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, len) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        raw_fail("connect", strerror(errno));
    for (size_t i = 0; i < warmup + rounds; i++) {
        uint64_t from = raw_now_ns();

        if (i == warmup)
            started = from;
        write_all(fd, data, size, piece);
        if (!read_all(fd, &done, 1))
            raw_fail("read", "the other process ended");
        if (i >= warmup)
            samples[i - warmup] = raw_now_ns() - from;
    }
    uint64_t ended = raw_now_ns();
    close(fd);
    waitpid(child, NULL, 0);
    raw_print("tcp_bulk", samples, rounds, ended - started);
    free(samples);
    free(data);
    return 0;
}
