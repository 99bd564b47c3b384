// SPDX-License-Identifier: Apache-2.0
// Why a function's program could not be executed, by execve's errors; NULL for those that say nothing of the program.
// For process 1, which has no libc, and for the bridge: whoever starts it, its function's caller reads the same.
#ifndef ENTRYPOINT_H
#define ENTRYPOINT_H

static inline const char *entrypoint_problem(int error) {
    switch (error) {
    case 2 /* ENOENT */: return "there is no such file, or the interpreter that it names is not in the image";
    case 7 /* E2BIG */: return "its arguments and environment are longer than the kernel takes";
    case 13 /* EACCES */: return "it is not marked as executable";
    case 8 /* ENOEXEC */: return "it is no program of this machine's kind, nor a script that names its interpreter";
    default: return 0;
    }
}

#endif
