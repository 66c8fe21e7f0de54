/* SPDX-License-Identifier: MIT
 * unroll.h: INLINE and UNROLL of the linear kernels, whose tiles live in registers only when loops over them are gone.
 * Under sanitizers (LM_PLAIN_LOOPS, from cmake/isa.cmake, or told by the compiler) both mean nothing: checks in
 * unrolled tiles take compilers many minutes, and the arithmetic is the same. */
#ifndef LM_X86_UNROLL_H
#define LM_X86_UNROLL_H
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#undef LM_PLAIN_LOOPS
#define LM_PLAIN_LOOPS 1
#elif defined(__clang__)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer) || \
    __has_feature(undefined_behavior_sanitizer)
#undef LM_PLAIN_LOOPS
#define LM_PLAIN_LOOPS 1
#endif
#endif

#if LM_PLAIN_LOOPS
#define INLINE static inline
#define UNROLL
#else
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#endif
#endif
