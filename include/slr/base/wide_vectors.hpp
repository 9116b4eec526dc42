#pragma once
/// \file
/// Functions for processors with wider vectors than those that everything else is compiled for.

/// In front of a function: it is compiled twice, and the faster one for this processor is called. Without fused
/// multiplications, so both give the same bits. (Sanitizers are not ready when the choice is made.)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&               \
    !defined(__SANITIZE_THREAD__)
#define SLR_WIDE_VECTORS __attribute__((target_clones("avx2", "default")))
#else
#define SLR_WIDE_VECTORS
#endif
