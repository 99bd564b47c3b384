// SPDX-License-Identifier: Apache-2.0
#include <seccomp.h>

// libseccomp's function-like macro, which Swift cannot call.
static inline uint32_t ebb_seccomp_errno(uint16_t error) { return SCMP_ACT_ERRNO(error); }
