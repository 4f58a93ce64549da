#!/usr/bin/env bash
# Installs what the build needs and the machine lacks: make, a C++ compiler (RocksDB), libclang (bindgen); and the programs that are named as
# arguments, each by the package of its name. Silent when all is there.
set -euo pipefail

has_libclang() {
    # where clang-sys looks: its variable, the loader's cache, llvm-config's directory, Debian's directories.
    # libclang-cpp, which LLVM's own packages bring, is another library.
    local dir
    for dir in "${LIBCLANG_PATH:-}" $(llvm-config --libdir 2>/dev/null || true) /usr/lib/llvm-*/lib; do
        compgen -G "$dir/libclang.so*" >/dev/null && return 0
        compgen -G "$dir/libclang-[0-9]*.so*" >/dev/null && return 0
    done
    { ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null || true; } | grep -q 'libclang[-.0-9]*\.so'
}

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust 1.95 or later, see https://rustup.rs" >&2
    exit 1
fi

missing=()
command -v make >/dev/null || missing+=(make)
command -v "${CXX:-g++}" >/dev/null || missing+=(g++)
has_libclang || missing+=(libclang-dev)
for program in "$@"; do
    command -v "$program" >/dev/null || missing+=("$program")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}")

if ! command -v apt-get >/dev/null || { [ ${#sudo[@]} -gt 0 ] && ! command -v sudo >/dev/null; }; then
    echo "missing: ${missing[*]}; install them with the system's packages. On Debian and Ubuntu, as root:" >&2
    echo "    apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "installing ${missing[*]}" >&2
"${sudo[@]}" apt-get update -qq
"${install[@]}"
