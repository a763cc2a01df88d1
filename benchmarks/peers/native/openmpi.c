/* SPDX-License-Identifier: Apache-2.0 */
/* Open MPI: blocking calls of the standard, which poll. mpirun starts both processes. */
#define _GNU_SOURCE
#include <mpi.h>

#include "twin.h"

#define TAG 1

static int own, peer;

static int rank(void)
{
    twin_must(MPI_Init(NULL, NULL) == MPI_SUCCESS, "MPI_Init");
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &own);
    peer = 1 - own;
    return own;
}

static void mpi_open(int side)
{
    (void)side; /* all is done in MPI_Init, once per process */
}

static void mpi_send(const void *out, size_t bytes)
{
    twin_must(MPI_Send(out, (int)bytes, MPI_BYTE, peer, TAG, MPI_COMM_WORLD) == MPI_SUCCESS, "MPI_Send");
}

static void mpi_receive(void *buffer, size_t bytes)
{
    twin_must(MPI_Recv(buffer, (int)bytes, MPI_BYTE, peer, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE) == MPI_SUCCESS,
              "MPI_Recv");
}

static void mpi_call(const void *out, void *in, size_t bytes)
{
    mpi_send(out, bytes);
    mpi_receive(in, bytes);
}

static void mpi_answer(void *buffer, size_t bytes)
{
    mpi_receive(buffer, bytes);
    mpi_send(buffer, bytes);
}

static void mpi_end(void)
{
    (void)MPI_Finalize();
}

const twin_t twin = {.name = "open mpi",
                     .call_max = 1 << 16,
                     .send_max = 1 << 30,
                     .by_launcher = true,
                     .side = rank,
                     .open = mpi_open,
                     .end = mpi_end,
                     .call = mpi_call,
                     .answer = mpi_answer,
                     .send = mpi_send,
                     .receive = mpi_receive};
