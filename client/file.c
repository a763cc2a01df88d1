/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a file in pieces: its size is what it turns out to be. */
#include "file.h"

#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

CUresult orion_file_read(const char *path, void **data_p, size_t *bytes_p)
{
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    size_t used = 0, capacity = 64 << 10;
    char *data = NULL;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? CUDA_ERROR_FILE_NOT_FOUND : CUDA_ERROR_INVALID_VALUE;
    for (;;) {
        char *larger = realloc(data, capacity + 1);
        if (!larger)
            goto err;
        data = larger;
        ssize_t n = read(fd, data + used, capacity - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            result = CUDA_ERROR_INVALID_VALUE;
            goto err;
        }
        if (n == 0)
            break;
        used += (size_t)n;
        if (used == capacity)
            capacity *= 2;
        if (used > ORION_IMAGE_LIMIT) {
            result = CUDA_ERROR_INVALID_IMAGE;
            goto err;
        }
    }
    close(fd);
    data[used] = 0;
    *data_p = data;
    *bytes_p = used;
    return CUDA_SUCCESS;
err:
    free(data);
    close(fd);
    return result;
}
