/* Tokens, the rule of epochs, and the receiver's rule. */
#include <string.h>

#include "lease/lease_private.h"
#include "lease/names.h"

struct orr_receiver {
    orr__names names;
    orr_token *highest; /* as many as names */
};

int orr_token_equal(const orr_token *a, const orr_token *b)
{
    return a->epoch == b->epoch && memcmp(a->session, b->session, 16) == 0;
}

bool orr__session_is_set(const uint8_t *session)
{
    static const uint8_t none[16];
    return memcmp(session, none, 16) != 0;
}

/* A plain counter repeats after a failover that lost its last value; with the
 * clock in it two sessions get one epoch only if a clock has stepped too. */
uint64_t orr_epoch_next(uint64_t stored, uint64_t floor, uint64_t wall_ms)
{
    uint64_t above = stored > floor ? stored : floor;
    if (above >= ORR_EPOCH_MAX)
        return 0;
    uint64_t epoch = above + 1;
    if (ORR__PLANTED(ORR__BUG_EPOCH_WITHOUT_CLOCK))
        return epoch;
    if (wall_ms > epoch)
        epoch = wall_ms;
    return epoch <= ORR_EPOCH_MAX ? epoch : 0;
}

orr_receiver *orr_receiver_new(uint32_t names_max)
{
    if (names_max == 0 || names_max > ORR_RECEIVER_NAMES_MAX)
        return NULL;
    orr_receiver *r = orr_calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->highest = orr_calloc(names_max, sizeof *r->highest);
    if (!r->highest || orr__names_init(&r->names, names_max) != ORR_OK) {
        orr_free(r->highest);
        orr_free(r);
        return NULL;
    }
    return r;
}

void orr_receiver_free(orr_receiver *r)
{
    if (!r)
        return;
    orr__names_fini(&r->names);
    orr_free(r->highest);
    orr_free(r);
}

static int judge(orr_token *known, const orr_token *token)
{
    if (token->epoch > known->epoch) {
        *known = *token;
        return ORR_VERDICT_ADOPTED;
    }
    if (token->epoch < known->epoch)
        return ORR_VERDICT_STALE;
    if (memcmp(token->session, known->session, 16) == 0 ||
        ORR__PLANTED(ORR__BUG_RECEIVER_EPOCH_ONLY))
        return ORR_VERDICT_ACCEPTED;
    return ORR_VERDICT_CONFLICT;
}

int orr_receiver_check(orr_receiver *r, const char *name,
                       const orr_token *token, orr_token *highest)
{
    if (!orr__name_is_valid(name) || token->epoch == 0 ||
        token->epoch > ORR_EPOCH_MAX || !orr__session_is_set(token->session))
        return ORR_EINVAL;
    uint32_t i = orr__names_find(&r->names, name);
    if (i == ORR__NONE) {
        i = orr__names_add(&r->names, name);
        if (i == ORR__NONE)
            return ORR_ENOSPC;
        memset(&r->highest[i], 0, sizeof r->highest[i]);
    }
    int verdict = judge(&r->highest[i], token);
    if (highest)
        *highest = r->highest[i];
    return verdict;
}

int orr_receiver_highest(const orr_receiver *r, const char *name,
                         orr_token *highest)
{
    uint32_t i =
        orr__name_is_valid(name) ? orr__names_find(&r->names, name) : ORR__NONE;
    if (i == ORR__NONE)
        return ORR_ENOENT;
    *highest = r->highest[i];
    return ORR_OK;
}

int orr_receiver_forget(orr_receiver *r, const char *name)
{
    uint32_t i =
        orr__name_is_valid(name) ? orr__names_find(&r->names, name) : ORR__NONE;
    if (i == ORR__NONE)
        return ORR_ENOENT;
    orr__names_remove(&r->names, i);
    return ORR_OK;
}
