#!/bin/sh
# Prints the instructions that one round of each benchmark takes. Build first:
# cargo build --release -p moonrest-luajit --example bench
bench=${BENCH:-target/release/examples/bench}
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : //p'
}
for name in ${*:-loop resume-finish yield-resume call-from-rust c-function c-function-number c-function-string \
    c-function-table c-function-library ffi-bare ffi-getter isempty isarray nkeys clone pcall-error rust-error}; do
    echo "$name $((($(count "$name" 30000) - $(count "$name" 10000)) / 20000))"
done
