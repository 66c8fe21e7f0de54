# A thin front for the CMake presets: `make help`.
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
SOURCES = $(shell git ls-files '*.c' '*.h' 2>/dev/null)
CLANG_FORMAT ?= $(shell command -v clang-format-14 || echo clang-format)
CLANG_TIDY ?= $(shell command -v clang-tidy-14 || echo clang-tidy)
FUZZ_SECONDS ?= 60

.PHONY: all release debug ci cuda test asan ubsan tsan fuzz bench format format-check tidy clean help

all: release

release debug ci cuda:
	cmake --preset $@
	cmake --build --preset $@ -j $(JOBS)

test: release
	ctest --preset release -j $(JOBS)

# randomized addresses of new kernels are more than these runtimes' shadow maps expect
NO_ASLR = $(shell setarch -R true 2>/dev/null && echo setarch -R)
asan ubsan tsan:
	cmake --preset $@
	cmake --build --preset $@ -j $(JOBS)
	$(NO_ASLR) ctest --preset $@ -j $(JOBS)

fuzz:
	cmake --preset fuzz
	cmake --build --preset fuzz -j $(JOBS)
	for f in build/fuzz/tests/fuzz/fuzz_*; do [ -x "$$f" ] && [ -f "$$f" ] || continue; n=$${f##*/fuzz_}; \
	  mkdir -p build/fuzz/found/$$n; echo "== $$n"; \
	  $(NO_ASLR) $$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
	    -artifact_prefix=build/fuzz/found/$$n. build/fuzz/found/$$n tests/fuzz/corpus/$$n || exit 1; done

bench: release
	bench/peers.sh

format:
	$(CLANG_FORMAT) -i $(SOURCES)

format-check:
	$(CLANG_FORMAT) --dry-run -Werror $(SOURCES)

tidy: release
	printf '%s\n' $(filter src/%.c cli/%.c,$(SOURCES)) | xargs -P $(JOBS) -n 4 $(CLANG_TIDY) --quiet -p build/release

clean:
	rm -rf build

help:
	@echo 'make            release build: build/release/mlx_lm'
	@echo 'make test       ... and its tests'
	@echo 'make asan       tests under AddressSanitizer and UBSan (also: ubsan, tsan)'
	@echo 'make fuzz       every fuzz target for FUZZ_SECONDS=60 (needs clang)'
	@echo 'make bench      ours beside llama.cpp and mlx-lm: bench/peers.sh'
	@echo 'make format     clang-format everything (format-check: only look)'
	@echo 'make tidy       clang-tidy src and cli'
	@echo 'make cuda       release build with CUDA (needs nvcc)'
	@echo 'make clean      remove build/'
	@echo './quickstart    install, build, fetch a model, benchmark it, evaluate it'
	@echo './check         install, build, run every test in every configuration'
