/* tw_guarded_call for AArch64, AAPCS64: see worker.h.
 *
 * saved[]: x18 x19 .. x29 sp, d8 .. d15, FPCR. x18 belongs to the platform: no kernel may touch it.
 * A kernel may have destroyed every register, the stack pointer too, so what is needed afterwards lies in memory. */
#include "worker.h"

    .bss
    .balign 8
keep_sp:    .skip 8
keep_after: .skip 8

    .text
    .globl tw_guarded_call
    .type tw_guarded_call, %function
tw_guarded_call:
    stp     x29, x30, [sp, #-192]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    mrs     x16, fpcr
    stp     x18, x16, [sp, #160]
    mov     x16, sp
    adrp    x17, keep_sp
    str     x16, [x17, #:lo12:keep_sp]
    adrp    x17, keep_after
    str     x5, [x17, #:lo12:keep_after]

    mov     x16, x0                     /* the kernel; its arguments move up by one */
    mov     x0, x1
    mov     x1, x2
    mov     x2, x3
    mov     x3, x4
    ldr     x18, =TW_CANARY
    .irp i, 19,20,21,22,23,24,25,26,27,28,29
    add     x\i, x18, #(\i - 18)
    .endr
    .irp i, 8,9,10,11,12,13,14,15
    add     x17, x18, #(\i + 5)
    fmov    d\i, x17
    .endr
    blr     x16

    adrp    x16, keep_after
    ldr     x16, [x16, #:lo12:keep_after]
    .irp i, 18,19,20,21,22,23,24,25,26,27,28,29
    str     x\i, [x16, #8 * (\i - 18)]
    .endr
    .irp i, 8,9,10,11,12,13,14,15
    str     d\i, [x16, #8 * (\i + 5)]
    .endr
    adrp    x17, keep_sp
    ldr     x17, [x17, #:lo12:keep_sp]
    mov     x15, sp
    mov     sp, x17
    sub     x15, x15, x17
    ldr     x17, =TW_CANARY + 12
    add     x15, x15, x17
    str     x15, [x16, #8 * 12]         /* the canary too when sp is where it was */
    ldp     x18, x17, [sp, #160]
    mrs     x15, fpcr
    eor     x15, x15, x17
    ldr     x14, =TW_CANARY + 21
    add     x15, x15, x14
    str     x15, [x16, #8 * 21]         /* the canary too when FPCR is what it was */
    msr     fpcr, x17
    ldp     d8, d9, [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #192
    ret
    .size tw_guarded_call, . - tw_guarded_call
    .section .note.GNU-stack, "", %progbits
