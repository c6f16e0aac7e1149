#!/bin/sh
# The native core on arm64: a cross compiler builds it, and an emulated Python runs its tests.
#
# usage: tests/arm64.sh FOLDER [argument of pytest ...]       (make arm64)
#
# On Debian. Python for arm64 is Debian's too, unpacked in FOLDER and installed nowhere; FOLDER/bin
# is its virtual environment. PYTHON names the Python whose pip fills it.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."
export QEMU_LD_PREFIX="$folder/root" # where an emulated program looks for /lib first
emulator=qemu-aarch64-static
target=aarch64-linux-gnu

missing=
for tool in cmake ninja $emulator $target-gcc $target-g++; do
    command -v $tool > /dev/null || missing="$missing $tool"
done
if [ "$missing" ]; then
    echo "missing:$missing. apt-get install cmake ninja-build qemu-user-static g++-$target" >&2
    exit 2
fi

script() { # file, text: an executable script
    printf '#!/bin/sh\n%s\n' "$2" > "$1"
    chmod +x "$1"
}

if [ ! -e "$folder/bin/python" ]; then
    echo "unpacking Debian's Python for arm64 ..."
    mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial" "$folder/bin"
    : > "$folder/apt/status" # nothing is installed: apt then finds all that Python needs
    apt() {
        apt-get --quiet=2 -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
            -o Dir::State="$folder/apt" -o Dir::State::status="$folder/apt/status" \
            -o Dir::Cache="$folder/apt" "$@"
    }
    apt update
    apt install --download-only --yes --no-install-recommends \
        python3-minimal libpython3-dev libstdc++6
    for package in "$folder"/apt/archives/*.deb; do
        dpkg --extract "$package" "$folder/root"
    done
    echo "home = $folder/root/usr/bin" > "$folder/pyvenv.cfg"
    # Python knows itself by the name it is called by (-0): what it starts is emulated as well.
    script "$folder/bin/python" \
        "exec $emulator -0 '$folder/bin/python' '$folder/root/usr/bin/python3' \"\$@\""
fi

# What tests compile: programs become scripts that emulate them.
script "$folder/bin/c++" "
$target-g++ \"\$@\" || exit
case \" \$* \" in *' -c '* | *' -shared '* | *' -fsyntax-only '*) exit ;; esac
while [ \"\$1\" != -o ]; do shift; done
mv \"\$2\" \"\$2.$target\"
printf '#!/bin/sh\nexec $emulator \"%s\" \"\$@\"\n' \"\$2.$target\" > \"\$2\"
chmod +x \"\$2\""

echo "building and installing into $folder ..."
system="-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64"
CMAKE_ARGS="$system -DCMAKE_CXX_COMPILER=$target-g++" \
    CXXFLAGS="-Werror -idirafter $folder/root/usr/include" \
    "${PYTHON:-python3}" -m pip --python "$folder/bin/python" --disable-pip-version-check \
    --quiet --quiet install ".[test]"
"$folder/bin/python" -m crossent doctor

if [ $# = 0 ]; then
    # The emulator's own locks hang in forked children, it drops advice about memory, and a stack
    # too large for any system it goes and fills. Sets of 150,000 classes only take their time.
    set -- -m "not slow" -k "not (fork or memory_advice or huge_pages or a_system_without_threads \
or 150000)" tests/test_build.py tests/test_doctor.py tests/test_native.py tests/test_exact_sum.py \
        tests/test_thread_pool.py tests/test_contract.py tests/test_contract_information.py \
        tests/test_same_bits.py
fi
CC=$target-gcc CXX="$folder/bin/c++" exec "$folder/bin/python" -m pytest -p no:cacheprovider \
    --hypothesis-profile=ci "$@" # without its limits of time
