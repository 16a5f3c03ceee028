#!/bin/sh
# Measures the graphics card of this machine: run.sh OUT [--quick] [--minutes N] [--mnist DIR] [--python FILE].
# `--help` lists all options. A second run with the same OUT resumes.
set -eu
kit=$(dirname -- "$(readlink -f -- "$0")")

die() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

[ "$(uname -s) $(uname -m)" = 'Linux x86_64' ] || die "the kit is for Linux on x86_64, this is $(uname -s) on $(uname -m)"

# The programs start with a worse message where glibc is too old.
need=$(cat "$kit/glibc")
have=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
have=${have#glibc }
[ -n "$have" ] || die "the kit needs glibc $need, and this machine has another C library"
older=$(printf '%s\n%s\n' "$need" "$have" | sort -t. -k1,1n -k2,2n | head -n 1)
[ "$older" = "$need" ] || die "the kit needs glibc $need, this machine has $have; pack it on an older distribution"

# The test binary travels compressed. Without it, the other stages run all the same.
if [ -e "$kit/bin/it.gz" ] && [ ! -e "$kit/bin/it" ]; then
    if gzip -dc "$kit/bin/it.gz" >"$kit/bin/it.part" && chmod +x "$kit/bin/it.part"; then
        mv "$kit/bin/it.part" "$kit/bin/it"
    else
        printf 'warning: %s cannot be unpacked: the stage of the tests will fail\n' "$kit/bin/it.gz" >&2
    fi
fi

# The kit's Vulkan loader serves machines that have none.
has_loader() {
    for ldconfig in ldconfig /sbin/ldconfig; do
        if "$ldconfig" -p 2>/dev/null | grep -q 'libvulkan\.so\.1 '; then return 0; fi
    done
    return 1
}
if [ -e "$kit/lib/libvulkan.so.1" ] && ! has_loader; then
    LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$kit/lib"
    export LD_LIBRARY_PATH
fi
# Some containers have NVIDIA's driver and its manifest where no loader looks.
if [ -d /usr/local/nvidia/lib64 ]; then
    LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/nvidia/lib64"
    export LD_LIBRARY_PATH
fi
if [ -d /usr/local/nvidia/share/vulkan ]; then
    XDG_DATA_DIRS="${XDG_DATA_DIRS:-/usr/local/share:/usr/share}:/usr/local/nvidia/share"
    export XDG_DATA_DIRS
fi
# Without any folder, Mesa writes two lines that look like errors for every device.
XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
export XDG_RUNTIME_DIR

exec "$kit/bin/card" --kit "$kit" "$@"
