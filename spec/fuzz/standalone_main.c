/* Runs a fuzz target once over each file given, and over each file in a folder
 * given (not deeper), in the order of their names. Prints one TAP line. Used
 * where there is no libFuzzer, and to replay a finding.
 *
 *   base_fuzz FILE-OR-FOLDER...
 */
#define _GNU_SOURCE 1

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 16 << 20 };

static size_t inputs;

static _Noreturn void fail(const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", path, why);
    exit(2);
}

static void run_file(const char *path, off_t size)
{
    if (size > INPUT_MAX)
        fail(path, "larger than 16 MiB");
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path, strerror(errno));
    /* Exactly as large as the input, so that a sanitizer sees one byte more. */
    size_t len = (size_t)size;
    uint8_t *data = malloc(len ? len : 1);
    if (!data)
        fail(path, "no memory");
    if (fread(data, 1, len, file) != len)
        fail(path, "cannot be read whole");
    fclose(file);
    if (LLVMFuzzerTestOneInput(data, len) != 0)
        fail(path, "the target refused the input");
    free(data);
    inputs++;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void run_folder(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, is_visible, alphasort);
    if (count < 0)
        fail(path, strerror(errno));
    for (int i = 0; i < count; i++) {
        char name[PATH_MAX];
        struct stat info;
        int len =
            snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (len < 0 || (size_t)len >= sizeof name)
            fail(path, "a name in it is too long");
        if (stat(name, &info) != 0)
            fail(name, strerror(errno));
        if (S_ISREG(info.st_mode))
            run_file(name, info.st_size);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE-OR-FOLDER...\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        struct stat info;
        if (stat(argv[i], &info) != 0)
            fail(argv[i], strerror(errno));
        if (S_ISDIR(info.st_mode))
            run_folder(argv[i]);
        else
            run_file(argv[i], info.st_size);
    }
    if (!inputs)
        fail(argv[1], "no input in it");
    const char *name = strrchr(argv[0], '/');
    printf("1..1\nok 1 - %s survives %zu inputs\n", name ? name + 1 : argv[0],
           inputs);
    return 0;
}
