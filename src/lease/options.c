/* Parameters of the lease and the rules between them (all in milliseconds but
 * for the rate). A rule that is broken is told with its figures. */
#include <string.h>

#include "lease/lease_private.h"

enum {
    TTL_MIN_MS = 50, /* below, the timers of a loaded machine decide */
    TTL_MAX_MS = ORR__TTL_MAX_MS,
    RATE_MAX_PPM = 100000,
    TRIES_MIN = 3,    /* renewals before the deadline */
    FAILOVERS_MIN = 3 /* T per measured failover */
};

void orr_lease_options_init(orr_lease_options *o, uint32_t ttl_ms)
{
    uint32_t tenth = ttl_ms / 10;
    *o = (orr_lease_options){
        .ttl_ms = ttl_ms,
        .margin_ms = ttl_ms / 5,
        .renew_ms = ttl_ms / 4,
        .jitter_percent = 10,
        .request_ms = tenth,
        .wait_ms = tenth < 500 ? tenth : 500,
        .poll_ms = tenth,
        .slack_ms = tenth,
        .stall_ms = ttl_ms / 20,
        .grace_ms = ttl_ms <= UINT32_MAX / 5 ? ttl_ms * 5 : UINT32_MAX,
        .rate_ppm = 20000,
        .seats_max = 64,
        .writes_max = 1024,
    };
}

static int check_range(const char *name, uint64_t value, uint64_t min,
                       uint64_t max, orr_error *err)
{
    if (value >= min && value <= max)
        return ORR_OK;
    return orr_error_set(err, ORR_EINVAL,
                         "lease: %s is %llu; it may be %llu to %llu", name,
                         (unsigned long long)value, (unsigned long long)min,
                         (unsigned long long)max);
}

static int check_ranges(const orr_lease_options *o, orr_error *err)
{
    const struct {
        const char *name;
        uint64_t value, min, max;
    } ranges[] = {
        {"ttl_ms", o->ttl_ms, TTL_MIN_MS, TTL_MAX_MS},
        {"margin_ms", o->margin_ms, 1, o->ttl_ms / 2},
        {"renew_ms", o->renew_ms, 1, o->ttl_ms},
        {"jitter_percent", o->jitter_percent, 0, 50},
        {"request_ms", o->request_ms, 1, o->ttl_ms},
        {"wait_ms", o->wait_ms, 1, o->ttl_ms},
        {"poll_ms", o->poll_ms, 1, o->ttl_ms / 2},
        {"slack_ms", o->slack_ms, 0, o->ttl_ms},
        {"stall_ms", o->stall_ms, 0, o->ttl_ms / 2},
        {"grace_ms", o->grace_ms, o->ttl_ms, UINT64_C(100) * o->ttl_ms},
        {"rate_ppm", o->rate_ppm, 0, RATE_MAX_PPM},
        {"replicas", o->replicas, 0, 64},
        {"seats_max", o->seats_max, 1, ORR_LEASE_SEATS_MAX},
        {"writes_max", o->writes_max, 1, ORR_LEASE_WRITES_MAX},
        {"floor", o->floor, 0, ORR__FLOOR_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        int code = check_range(ranges[i].name, ranges[i].value, ranges[i].min,
                               ranges[i].max, err);
        if (code != ORR_OK)
            return code;
    }
    return ORR_OK;
}

int orr_lease_options_check(const orr_lease_options *o, orr_error *err)
{
    int code = check_ranges(o, err);
    if (code != ORR_OK)
        return code;
    if (!orr__session_is_set(o->incarnation))
        return orr_error_set(err, ORR_EINVAL,
                             "lease: incarnation is all zero; give 16 random "
                             "bytes, new for every start");
    uint64_t failovers = (uint64_t)FAILOVERS_MIN * o->failover_ms;
    if (o->ttl_ms < failovers)
        return orr_error_set(err, ORR_EINVAL,
                             "lease: ttl_ms is %u, below %d times the "
                             "failover time of the store (%u ms); give at "
                             "least %llu",
                             o->ttl_ms, FAILOVERS_MIN, o->failover_ms,
                             (unsigned long long)failovers);
    uint64_t drift = ((uint64_t)o->ttl_ms * o->rate_ppm + 999999) / 1000000;
    uint64_t least = drift + o->request_ms + o->stall_ms;
    if (o->margin_ms < least)
        return orr_error_set(err, ORR_EINVAL,
                             "lease: margin_ms is %u, below the drift of the "
                             "clocks (%llu ms) + request_ms (%u) + stall_ms "
                             "(%u); give at least %llu",
                             o->margin_ms, (unsigned long long)drift,
                             o->request_ms, o->stall_ms,
                             (unsigned long long)least);
    uint64_t tries = (uint64_t)TRIES_MIN * o->renew_ms;
    if (tries > o->ttl_ms - o->margin_ms)
        return orr_error_set(err, ORR_EINVAL,
                             "lease: renew_ms is %u: fewer than %d tries "
                             "before the deadline (ttl_ms - margin_ms = %u); "
                             "give at most %u",
                             o->renew_ms, TRIES_MIN, o->ttl_ms - o->margin_ms,
                             (o->ttl_ms - o->margin_ms) / TRIES_MIN);
    if ((uint64_t)o->request_ms + o->wait_ms > o->renew_ms)
        return orr_error_set(err, ORR_EINVAL,
                             "lease: request_ms (%u) + wait_ms (%u) is above "
                             "renew_ms (%u); a renewal must end before the "
                             "next one begins",
                             o->request_ms, o->wait_ms, o->renew_ms);
    return ORR_OK;
}

const char *orr_lease_reason_text(int reason)
{
    static const char *const texts[] = {
        [ORR_LEASE_NONE] = "nothing is wrong",
        [ORR_LEASE_BUSY] = "the lease has changed since it was looked at",
        [ORR_LEASE_LOST] = "the lease is somebody else's",
        [ORR_LEASE_CONFLICT] = "the record has another version",
        [ORR_LEASE_REFUSED] = "the store refuses to write",
        [ORR_LEASE_NOT_PRIMARY] = "the server is not a primary that serves",
        [ORR_LEASE_EXPIRED] = "its deadline passed",
        [ORR_LEASE_TIMEOUT] = "the store did not answer in time",
        [ORR_LEASE_DISCONNECTED] = "the connection to the store ended",
        [ORR_LEASE_NOT_DURABLE] = "too few replicas have confirmed",
        [ORR_LEASE_DEADLINE] = "the lease was not renewed in time",
        [ORR_LEASE_GRACE] = "the lease was not renewed for too long",
        [ORR_LEASE_REPLACED] = "a higher token of this process replaces it",
        [ORR_LEASE_HANDOVER] = "the lease is handed over",
        [ORR_LEASE_STOP] = "the process stops",
        [ORR_LEASE_UNFIT] = "the checks of the store fail",
        [ORR_LEASE_STORE_COLD] =
            "the store is empty; agree before it is formatted and used",
        [ORR_LEASE_STORE_FOREIGN] =
            "the store is not the one that was used before; agree to use it",
        [ORR_LEASE_STORE_REGRESSED] =
            "the store has older data; what is known is put again",
        [ORR_LEASE_BAD_RECORD] = "a field of the lease record is out of range",
        [ORR_LEASE_OUTRANKED] =
            "a receiver knows a token above the store's; acquiring above it",
        [ORR_LEASE_FLOOR_UNSAVED] =
            "the highest epoch could not be written to the disk",
    };
    size_t count = sizeof texts / sizeof *texts;
    return reason >= 0 && (size_t)reason < count ? texts[reason] : "unknown";
}
