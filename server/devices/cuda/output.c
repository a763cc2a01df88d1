/* SPDX-License-Identifier: Apache-2.0 */
/* What the driver prints on standard output for kernels belongs to the client. It is written to a memory file, which
 * takes everything without ever making the driver wait, and is emptied as it is read. */
#include "cuda/device.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE 4096

int orion_cuda_output_open(void)
{
    const int fd = (int)memfd_create("orion-output", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    fflush(stdout);
    if (fcntl(fd, F_SETFL, O_APPEND) == 0 && dup2(fd, STDOUT_FILENO) == STDOUT_FILENO)
        return fd;
    close(fd);
    return -1;
}

void orion_cuda_output_flush(orion_device_t *device)
{
    char text[PIECE];
    ssize_t got;
    const int64_t before = device->output_at;
    if (device->output < 0)
        return;
    while ((got = pread(device->output, text, sizeof text, device->output_at)) > 0) {
        device->output_at += got;
        if (device->config.print)
            device->config.print(device->config.print_self, text, (size_t)got);
    }
    if (device->output_at / PIECE > before / PIECE)
        fallocate(device->output, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, device->output_at / PIECE * PIECE);
}
