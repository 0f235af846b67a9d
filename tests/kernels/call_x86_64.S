/* tw_guarded_call for x86-64, System V ABI: see worker.h.
 *
 * saved[]: rbx rbp r12 r13 r14 r15 rsp, MXCSR, x87 control word, direction flag.
 * A kernel may have destroyed every register, the stack pointer too, so what is needed afterwards lies in memory. */
#include "worker.h"

    .bss
    .balign 8
keep_sp:    .skip 8
keep_after: .skip 8

    .text
    .globl tw_guarded_call
    .type tw_guarded_call, @function
tw_guarded_call:
    pushq   %rbx
    pushq   %rbp
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    subq    $8, %rsp                    /* 16-byte aligned at the call, as the ABI wants */
    stmxcsr (%rsp)
    fnstcw  4(%rsp)
    movq    %rsp, keep_sp(%rip)
    movq    %r9, keep_after(%rip)

    movq    %rdi, %rax                  /* the kernel; its arguments move up by one */
    movq    %rsi, %rdi
    movq    %rdx, %rsi
    movq    %rcx, %rdx
    movq    %r8, %rcx
    movabsq $TW_CANARY, %rbx
    leaq    1(%rbx), %rbp
    leaq    2(%rbx), %r12
    leaq    3(%rbx), %r13
    leaq    4(%rbx), %r14
    leaq    5(%rbx), %r15
    cmpl    $32, tw_vector_bytes(%rip)
    jl      1f
    vzeroupper                          /* upper halves found non-zero later are the kernel's */
1:
    call    *%rax

    movq    keep_after(%rip), %r11
    movq    %rbx, (%r11)
    movq    %rbp, 8(%r11)
    movq    %r12, 16(%r11)
    movq    %r13, 24(%r11)
    movq    %r14, 32(%r11)
    movq    %r15, 40(%r11)
    movq    %rsp, %rax
    movq    keep_sp(%rip), %rsp
    subq    %rsp, %rax
    movabsq $TW_CANARY + 6, %rdx
    addq    %rdx, %rax
    movq    %rax, 48(%r11)              /* the canary too when rsp is where it was */
    stmxcsr -8(%rsp)                    /* the rest likewise: canary + i + what differs */
    movl    -8(%rsp), %eax
    xorl    (%rsp), %eax
    andl    $0xffc0, %eax               /* control bits; the status bits below are nobody's */
    leaq    1(%rdx,%rax), %rax
    movq    %rax, 56(%r11)
    fnstcw  -8(%rsp)
    movzwl  -8(%rsp), %eax
    xorw    4(%rsp), %ax
    leaq    2(%rdx,%rax), %rax
    movq    %rax, 64(%r11)
    pushfq
    popq    %rax
    cld
    andl    $0x400, %eax                /* the direction flag */
    leaq    3(%rdx,%rax), %rax
    movq    %rax, 72(%r11)
    cmpl    $32, tw_vector_bytes(%rip)
    jl      3f
    je      2f
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu64 %zmm\i, 192+64*\i(%r11)
    .endr
    vzeroupper
    jmp     3f
2:
    .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu %ymm\i, 192+64*\i(%r11)
    .endr
    vzeroupper
3:
    ldmxcsr (%rsp)
    fldcw   4(%rsp)
    addq    $8, %rsp
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbp
    popq    %rbx
    ret
    .size tw_guarded_call, . - tw_guarded_call
    .section .note.GNU-stack, "", @progbits
