#!/bin/sh
# Checks the system libraries that Open3D and off-screen rendering need; installs them when it may.
set -eu
missing=""
check() { # library file, Debian package
    ldconfig -p 2>/dev/null | grep -q "$1" || /sbin/ldconfig -p 2>/dev/null | grep -q "$1" || missing="$missing $2"
}
check libusb-1.0.so.0 libusb-1.0-0
check libEGL.so.1 libegl1
check libGL.so.1 libgl1
check libgomp.so.1 libgomp1
check libEGL_mesa.so.0 libegl-mesa0
check libX11.so.6 libx11-6
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing system libraries:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "system libraries are missing; install them with:" >&2
    echo "    sudo apt-get install -y$missing" >&2
    exit 1
fi
