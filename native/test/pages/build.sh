#!/bin/bash
# Builds the programs of the pager's tests. Usage: build.sh FOLDER [SANITIZERS]
# With sanitizers ("address,undefined" or "thread") the pager itself is built too, with them.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p "$1"
flags=(-std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wshadow -O2 -g)
pages=(../../pages/{codec,hash,files,index}.c ../../common.c)
gcc "${flags[@]}" -o "$1/make-store" make-store.c "${pages[@]}" -lcrypto -llz4 -lzstd -pthread
gcc "${flags[@]}" -o "$1/counted" counted.c
gcc "${flags[@]}" -o "$1/lazy" lazy.c ../../common.c -pthread
[ -n "${2:-}" ] || exit 0
make -s -C ../.. OUT="$1" CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=$2" HARDENING= "$1/torpor-pager"
fuzzed=(../../pages/{pager-map,pager-fuse,snapshot,reader,record,index,files,hash,crypt,codec,report}.c ../../common.c)
gcc "${flags[@]}" -fsanitize="$2" -o "$1/fuzz-pager" fuzz-pager.c "${fuzzed[@]}" -lcrypto -llz4 -lzstd -pthread
