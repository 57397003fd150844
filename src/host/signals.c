/* SIGINT and SIGTERM: counted, and the main executor is woken.
 *
 * Nothing is installed before somebody asks: a script that never looks is ended
 * by the signal as any other program. When nobody looks after the third signal
 * (a loop that never ends), the fourth one ends the process.
 */
#define _GNU_SOURCE 1
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "host/host.h"

enum { PATIENCE = 3, EXIT_INTERRUPTED = 130 };

static _Atomic int count;
static _Atomic int unseen;
static _Atomic int installed;
static _Atomic(orr_executor *) wakes;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&count, 1);
    if (atomic_fetch_add(&unseen, 1) >= PATIENCE)
        _exit(EXIT_INTERRUPTED);
    /* A store and a write to an eventfd: fit for a signal handler. */
    orr_executor *ex = atomic_load(&wakes);
    if (ex != NULL)
        orr_executor_wake(ex);
}

int orr__signals_count(orr_executor *wake)
{
    if (wake != NULL)
        atomic_store(&wakes, wake);
    if (atomic_exchange(&installed, 1) == 0) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = on_signal;
        action.sa_flags = SA_RESTART;
        sigemptyset(&action.sa_mask);
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
    }
    atomic_store(&unseen, 0);
    return atomic_load(&count);
}

void orr__signals_forget(orr_executor *ex)
{
    atomic_compare_exchange_strong(&wakes, &ex, NULL);
}
