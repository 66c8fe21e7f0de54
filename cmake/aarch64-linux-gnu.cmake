# Cross build for AArch64 Linux with Debian's gcc-aarch64-linux-gnu; tests run under qemu-user.
#   cmake -S . -B build/aarch64 --toolchain cmake/aarch64-linux-gnu.cmake -DLM_ONLY_KERNELS=ON
# Without LM_ONLY_KERNELS the libraries for arm64 are needed: from Debian's multiarch, or from packages unpacked into a
# folder named by LM_AARCH64_SYSROOT. The environment's QEMU_CPU names the processor that qemu plays (cortex-a57, max).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES LM_AARCH64_SYSROOT)

set(LM_AARCH64_LIBRARIES ${LM_AARCH64_SYSROOT}/usr/lib/aarch64-linux-gnu)
set(ENV{PKG_CONFIG_LIBDIR} ${LM_AARCH64_LIBRARIES}/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${LM_AARCH64_SYSROOT}")
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu ${LM_AARCH64_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
if(LM_AARCH64_SYSROOT)
  set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,-rpath-link,${LM_AARCH64_LIBRARIES}")
endif()

find_program(LM_QEMU NAMES qemu-aarch64-static qemu-aarch64)
if(LM_QEMU)
  # -L: where the dynamic linker and libc of the cross compiler lie
  set(CMAKE_CROSSCOMPILING_EMULATOR ${LM_QEMU} -L /usr/aarch64-linux-gnu
    -E LD_LIBRARY_PATH=/usr/aarch64-linux-gnu/lib:${LM_AARCH64_LIBRARIES})
endif()
