#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copies the client library into a folder that another container mounts, whole or not at all.
set -eu
target=${1:-/target}
cp /orion/libcuda.so.1 "$target/.libcuda.so.1.$$"
chmod 0755 "$target/.libcuda.so.1.$$"
mv -f "$target/.libcuda.so.1.$$" "$target/libcuda.so.1"
echo "orion: libcuda.so.1 is in $target; set LD_LIBRARY_PATH=$target in the program's container"
