#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compiles the CUDA sources in this folder to the PTX that the tests read. Needs nvcc.
set -eu
cd "$(dirname "$0")"
for source in *.cu; do
    "${ORION_NVCC:-nvcc}" -ptx -arch=compute_80 -o "${source%.cu}.ptx" "$source"
done
