/* Names of the codes, and the sentence beside a code. */
#include <stdarg.h>
#include <stdio.h>

#include "orrery/base.h"

const char *orr_code_name(int code)
{
    switch (code) {
    case ORR_OK: return "ok";
    case ORR_ENOMEM: return "no_memory";
    case ORR_EINVAL: return "invalid";
    case ORR_EPROTO: return "protocol";
    case ORR_EIO: return "io";
    case ORR_ENOENT: return "not_found";
    case ORR_EEXIST: return "exists";
    case ORR_EADDRINUSE: return "address_in_use";
    case ORR_EACCES: return "permission_denied";
    case ORR_ENOSPC: return "disk_full";
    case ORR_ECLOSED: return "closed";
    case ORR_EAGAIN: return "again";
    case ORR_EMORE: return "more";
    case ORR_NOT_STARTED: return "not_started";
    case ORR_UNREACHABLE: return "unreachable";
    case ORR_FENCED: return "fenced";
    case ORR_NO_METHOD: return "no_method";
    case ORR_BAD_ARGUMENT: return "bad_argument";
    case ORR_TOO_LARGE: return "too_large";
    case ORR_OVERLOADED: return "overloaded";
    case ORR_EXPIRED_IN_QUEUE: return "expired_in_queue";
    case ORR_EXPIRED_IN_HANDLER: return "expired_in_handler";
    case ORR_CANCELLED: return "cancelled";
    case ORR_CALLEE_DIED: return "callee_died";
    case ORR_VERSION_MISMATCH: return "version_mismatch";
    case ORR_REMOTE: return "remote";
    case ORR_EXPIRED_UNSENT: return "expired_unsent";
    case ORR_EXPIRED_UNKNOWN: return "expired_unknown";
    case ORR_ACCESS_DENIED: return "access_denied";
    default: return "unknown";
    }
}

int orr_error_set(orr_error *err, int code, const char *format, ...)
{
    if (err == NULL)
        return code;
    err->code = code;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (n < 0)
        snprintf(err->text, sizeof err->text, "%s", orr_code_name(code));
    return code;
}
