// SPDX-License-Identifier: Apache-2.0
#include <sys/capability.h>
