#!/bin/bash
# Builds the programs of the pager's tests. Usage: build.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p "$1"
flags=(-std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wshadow -O2 -g)
pages=(../../pages/{codec,hash,files,index}.c ../../common.c)
gcc "${flags[@]}" -o "$1/make-store" make-store.c "${pages[@]}" -lcrypto -llz4 -lzstd -pthread
gcc "${flags[@]}" -o "$1/lazy" lazy.c ../../common.c -pthread
