/* SPDX-License-Identifier: Apache-2.0 */
/* Settings, see settings.h. A file is read once, at the first question; one that cannot be read is none. */
#define _GNU_SOURCE
#include "settings.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/fd.h"
#include "say.h"

#define SYSTEM_FILE "/etc/orion/client.conf"
#define USER_FILE ".orion/client.conf"
#define FILE_BYTES 16384
#define PAIRS_MOST 64

typedef struct {
    char text[FILE_BYTES + 1];
    struct {
        const char *key, *value;
    } pairs[PAIRS_MOST];
    int count;
} conf_file_t;

static conf_file_t files[2]; /* the user's, the system's */
static int have_read;

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t length = strlen(text);
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        text[--length] = '\0';
    if (length >= 2 && text[0] == '"' && text[length - 1] == '"') {
        text[length - 1] = '\0';
        text++;
    }
    return text;
}

static void parse(conf_file_t *file)
{
    char *rest = file->text, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        line[strcspn(line, "#;")] = '\0';
        char *value = strchr(line, '=');
        if (value == NULL || file->count == PAIRS_MOST) /* a section, nothing, or too much */
            continue;
        *value++ = '\0';
        file->pairs[file->count].key = trim(line);
        file->pairs[file->count].value = trim(value);
        file->count++;
    }
}

static void read_file(conf_file_t *file, const char *path)
{
    file->count = 0;
    file->text[0] = '\0';
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd < 0)
        return;
    ssize_t bytes = read(fd, file->text, FILE_BYTES); /* regular files come whole */
    orion_fd_close(fd);
    if (bytes == FILE_BYTES)
        orion_say("%s is longer than %d bytes and was not read", path, FILE_BYTES - 1);
    if (bytes <= 0 || bytes == FILE_BYTES)
        return;
    file->text[bytes] = '\0';
    parse(file);
}

void orion_settings_read(const char *user_file, const char *system_file)
{
    read_file(&files[0], user_file);
    read_file(&files[1], system_file);
    have_read = 1;
}

static int names(const char *key, const char *variable)
{
    if (strcasecmp(key, variable) == 0)
        return 1;
    if (strcasecmp(key, "controller_addr") == 0)
        key = "controller";
    return strncmp(variable, "ORION_", 6) == 0 && strcasecmp(key, variable + 6) == 0;
}

const char *orion_setting(const char *name)
{
    const char *text = getenv(name);
    if (text != NULL)
        return text;
    if (!have_read) {
        char path[512];
        const char *home = getenv("HOME");
        int length = home != NULL ? snprintf(path, sizeof(path), "%s/" USER_FILE, home) : -1;
        orion_settings_read(length > 0 && (size_t)length < sizeof(path) ? path : NULL, SYSTEM_FILE);
    }
    for (int f = 0; f < 2; f++) {
        for (int i = 0; i < files[f].count; i++) {
            if (names(files[f].pairs[i].key, name))
                return files[f].pairs[i].value;
        }
    }
    return NULL;
}
