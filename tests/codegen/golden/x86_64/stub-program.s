program:
     0  mov r13, qword ptr gs:[0xd0]
     9  mov r12, qword ptr gs:[0xf8]
    12  add r12, 0x400
op_next:
     0  dec r13
     3  js stub_broken
     9  mov rdi, qword ptr [r12 + 0x10]
     e  mov rsi, qword ptr [r12 + 0x18]
    13  mov rdx, qword ptr [r12 + 0x20]
    18  mov r10, qword ptr [r12 + 0x28]
    1d  mov r8, qword ptr [r12 + 0x30]
    22  mov r9, qword ptr [r12 + 0x38]
    27  movzx ecx, word ptr [r12 + 2]
    2d  test ecx, ecx
    2f  je literal.6
    35  test ecx, 1
    3b  je literal.1
    41  mov rdi, qword ptr gs:[rdi*8 + 0x240]
literal.1:
     0  test ecx, 2
     6  je literal.2
     c  mov rsi, qword ptr gs:[rsi*8 + 0x240]
literal.2:
     0  test ecx, 4
     6  je literal.3
     c  mov rdx, qword ptr gs:[rdx*8 + 0x240]
literal.3:
     0  test ecx, 8
     6  je literal.4
     c  mov r10, qword ptr gs:[r10*8 + 0x240]
literal.4:
     0  test ecx, 0x10
     6  je literal.5
     c  mov r8, qword ptr gs:[r8*8 + 0x240]
literal.5:
     0  test ecx, 0x20
     6  je literal.6
     c  mov r9, qword ptr gs:[r9*8 + 0x240]
literal.6:
op_dispatch:
     0  movzx eax, byte ptr [r12]
     5  lea r11, [op_table]
     c  jmp qword ptr [r11 + rax*8]
op_done:
     0  movzx ecx, byte ptr [r12 + 1]
     6  and ecx, 0xf
     9  mov qword ptr gs:[rcx*8 + 0x240], rax
    12  mov ecx, dword ptr [r12 + 4]
    17  test ecx, 4
    1d  je op_check
    23  cmp rax, -4
    27  je op_failed
op_check:
     0  test ecx, 1
     6  je op_advance
     c  cmp rax, -0xfff
    12  jae op_failed
op_advance:
     0  add r12, 0x40
     4  jmp op_next
op_failed:
     0  sub r12, qword ptr gs:[0xf8]
     9  sub r12, 0x400
    10  shr r12, 6
    14  mov qword ptr gs:[0x10], r12
    1d  mov qword ptr gs:[0x18], rax
    26  movabs rcx, 0x100000003
    30  mov qword ptr gs:[8], rcx
    39  jmp post
op_continue:
     0  movabs rcx, 0x100000002
     a  mov qword ptr gs:[8], rcx
    13  jmp post
op_end:
     0  mov rax, rdi
     3  jmp resume
op_hostcall:
     0  mov rax, qword ptr [r12 + 8]
     5  test dword ptr [r12 + 4], 2
     e  je hostcall_plain
hostcall_check:
     0  cmp dword ptr gs:[0x114], 0
     9  jne hostcall_interrupted
hostcall_call:
     0  syscall
     2  jmp op_done
hostcall_plain:
     0  syscall
     2  jmp op_done
hostcall_interrupted:
     0  mov rax, 0xfffffffffffffffc
     7  jmp op_done
op_copy_out:
     0  lea rax, [op_fault]
     7  mov qword ptr gs:[0x40], rax
    10  mov rcx, rdx
    13  add rsi, qword ptr gs:[0xf8]
    1c  add rsi, 0x4000
    23  rep movsb byte ptr [rdi], byte ptr [rsi]
    25  jmp op_unguard
op_copy_in:
     0  lea rax, [op_fault]
     7  mov qword ptr gs:[0x40], rax
    10  mov rcx, rdx
    13  add rsi, qword ptr gs:[0xf8]
    1c  add rsi, 0x4000
    23  xchg rsi, rdi
    26  rep movsb byte ptr [rdi], byte ptr [rsi]
    28  jmp op_unguard
op_cmpxchg32:
     0  lea rax, [op_fault]
     7  mov qword ptr gs:[0x40], rax
    10  mov eax, esi
    12  lock cmpxchg dword ptr [rdi], edx
    16  mov qword ptr gs:[0x40], 0
    23  jmp op_done
op_store32:
     0  lea rax, [op_fault]
     7  mov qword ptr gs:[0x40], rax
    10  mov dword ptr [rdi], esi
op_unguard:
     0  mov qword ptr gs:[0x40], 0
     d  xor eax, eax
     f  jmp op_done
op_fault:
     0  mov qword ptr gs:[0x40], 0
     d  mov rax, 0xfffffffffffffff2
    14  jmp op_done
op_recv_fds:
     0  mov r14, rdi
     3  mov r15, rsi
     6  mov rbp, rdx
     9  sub rsp, 0x80
recv_again:
     0  cmp qword ptr gs:[0x2d0], 0
     a  jne recv_mail
    10  xor eax, eax
    12  mov qword ptr [rsp], rax
    16  mov qword ptr [rsp + 8], rax
    1b  mov qword ptr [rsp + 0x30], rax
    20  lea rax, [rsp + 0x38]
    25  mov qword ptr [rsp + 0x10], rax
    2a  mov qword ptr [rsp + 0x18], 1
    33  lea rax, [rsp + 0x60]
    38  mov qword ptr [rsp + 0x20], rax
    3d  lea rax, [rsp + 0x48]
    42  mov qword ptr [rsp + 0x38], rax
    47  mov qword ptr [rsp + 0x40], 0x10
    50  mov qword ptr [rsp + 0x28], 0x18
    59  mov edi, 0x3fe
    5e  mov rsi, rsp
    61  mov rdx, r15
    64  or edx, 0x40
    67  mov eax, 0x2f
    6c  syscall
    6e  cmp rax, -0xb
    72  je recv_yield
    78  test rax, rax
    7b  js recv_out
    81  test dword ptr [rsp + 0x30], 8
    89  jne recv_none
    8f  mov rbx, qword ptr [rsp + 0x48]
    94  cmp rbx, qword ptr gs:[0xf8]
    9d  jne recv_deliver
    a3  mov rax, qword ptr [rsp + 0x70]
    a8  mov rdx, qword ptr [rsp + 0x50]
    ad  jmp recv_got
recv_mail:
     0  mov rax, qword ptr gs:[0x2d8]
     9  mov rdx, qword ptr gs:[0x2d0]
    12  mov qword ptr [rsp + 0x70], rax
    17  mov qword ptr [rsp + 0x60], 0x18
    20  mov qword ptr gs:[0x2d0], 0
recv_got:
     0  mov rcx, qword ptr [r12 + 0x28]
     5  cmp rcx, -1
     9  je recv_take
     f  shl rdx, 1
    12  shr rdx, 2
    16  cmp rdx, rcx
    19  jne recv_stale
recv_take:
     0  mov rcx, rax
     3  shr rcx, 0x20
     7  mov eax, eax
     9  cmp r14, 1
     d  je recv_one
    13  movzx edx, byte ptr [r12 + 1]
    19  inc edx
    1b  and edx, 0xf
    1e  mov qword ptr gs:[rdx*8 + 0x240], rcx
    27  jmp recv_out
recv_one:
     0  cmp eax, 0x1000
     5  jae recv_out
     b  mov rcx, qword ptr gs:[0x108]
    14  mov byte ptr [rcx + rax], bpl
    18  jmp recv_out
recv_none:
     0  mov rax, 0xffffffffffffffe8
recv_out:
     0  add rsp, 0x80
     7  jmp op_done
recv_yield:
     0  mov eax, 0x18
     5  syscall
     7  jmp recv_again
recv_stale:
     0  mov edi, dword ptr [rsp + 0x70]
     4  mov eax, 3
     9  syscall
     b  cmp qword ptr [rsp + 0x60], 0x18
    11  jne one_received.1
    17  mov edi, dword ptr [rsp + 0x74]
    1b  mov eax, 3
    20  syscall
one_received.1:
     0  jmp recv_again
recv_deliver:
     0  cmp qword ptr [rsp + 0x60], 0x18
     6  je two_for_sibling
     c  mov dword ptr [rsp + 0x74], 0xffffffff
two_for_sibling:
     0  cmp qword ptr [rbx + 0x2d0], 0
     8  je mailbox_empty
     e  mov edi, dword ptr [rbx + 0x2d8]
    14  mov eax, 3
    19  syscall
    1b  mov edi, dword ptr [rbx + 0x2dc]
    21  mov eax, 3
    26  syscall
mailbox_empty:
     0  mov edi, dword ptr [rsp + 0x70]
     4  mov esi, 2
     9  mov rdx, qword ptr [rsp + 0x50]
     e  and edx, 1
    11  mov eax, 0x48
    16  syscall
    18  mov edi, dword ptr [rsp + 0x74]
    1c  mov esi, 2
    21  mov rdx, qword ptr [rsp + 0x50]
    26  and edx, 1
    29  mov eax, 0x48
    2e  syscall
    30  mov rax, qword ptr [rsp + 0x70]
    35  mov qword ptr [rbx + 0x2d8], rax
    3c  mov rax, qword ptr [rsp + 0x50]
    41  bts rax, 0x3f
    46  mov qword ptr [rbx + 0x2d0], rax
    4d  jmp recv_again
op_send_fd:
     0  sub rsp, 0x80
     7  xor eax, eax
     9  mov qword ptr [rsp], rax
     d  mov qword ptr [rsp + 8], rax
    12  mov qword ptr [rsp + 0x30], rax
    17  lea rax, [rsp + 0x38]
    1c  mov qword ptr [rsp + 0x10], rax
    21  mov qword ptr [rsp + 0x18], 1
    2a  lea rax, [rsp + 0x60]
    2f  mov qword ptr [rsp + 0x20], rax
    34  lea rax, [rsp + 0x48]
    39  mov qword ptr [rsp + 0x38], rax
    3e  mov qword ptr [rsp + 0x40], 0x10
    47  mov qword ptr [rsp + 0x28], 0x18
    50  mov rax, qword ptr gs:[0xf8]
    59  mov qword ptr [rsp + 0x48], rax
    5e  mov qword ptr [rsp + 0x50], 0
    67  mov qword ptr [rsp + 0x60], 0x14
    70  mov dword ptr [rsp + 0x68], 1
    78  mov dword ptr [rsp + 0x6c], 1
    80  mov dword ptr [rsp + 0x70], edi
    84  mov edi, 0x3fe
    89  mov rsi, rsp
    8c  xor edx, edx
    8e  mov eax, 0x2e
    93  syscall
    95  add rsp, 0x80
    9c  jmp op_done
op_clone:
     0  mov rbx, r9
     3  mov r14d, 0xffffffff
     9  test dword ptr [r12 + 4], 8
    12  je clone_plain
    18  mov r14d, dword ptr gs:[0x240]
    21  mov r15d, dword ptr gs:[0x248]
clone_plain:
     0  mov eax, 0x38
     5  syscall
     7  test rax, rax
     a  jne op_done
    10  test r14d, r14d
    13  js slot_mapped
    19  mov rdi, rbx
    1c  mov esi, 0x20000
    21  mov edx, 3
    26  mov r10d, 0x11
    2c  mov r8d, r15d
    2f  xor r9d, r9d
    32  mov eax, 9
    37  syscall
    39  cmp rax, rbx
    3c  je slot_good
    42  ud2
slot_good:
     0  mov edi, r15d
     3  mov eax, 3
     8  syscall
slot_mapped:
     0  mov rsi, rbx
     3  mov edi, 0x1001
     8  mov eax, 0x9e
     d  syscall
     f  mov rdi, qword ptr gs:[0xf8]
    18  mov esi, 0x20000
    1d  mov edx, 0xa
    22  mov eax, 0x1c
    27  syscall
    29  mov rdi, qword ptr gs:[0xf8]
    32  add rdi, 0x2e0
    39  xor esi, esi
    3b  mov eax, 0x83
    40  syscall
    42  mov edi, 1
    47  mov esi, 9
    4c  mov eax, 0x9d
    51  syscall
    53  mov eax, 0xba
    58  syscall
    5a  mov dword ptr gs:[0x118], eax
    62  test r14d, r14d
    65  js unlimited.2
    6b  cmp qword ptr gs:[0x318], 0
    75  je unlimited.1
    7b  xor edi, edi
    7d  mov esi, 7
    82  mov rdx, qword ptr gs:[0xf8]
    8b  add rdx, 0x310
    92  xor r10d, r10d
    95  mov eax, 0x12e
    9a  syscall
unlimited.1:
     0  mov edi, r14d
     3  mov esi, 0x3fe
     8  xor edx, edx
     a  mov eax, 0x124
     f  syscall
    11  mov edi, r14d
    14  mov eax, 3
    19  syscall
    1b  cmp qword ptr gs:[0x328], 0
    25  je unlimited.2
    2b  xor edi, edi
    2d  mov esi, 7
    32  mov rdx, qword ptr gs:[0xf8]
    3b  add rdx, 0x320
    42  xor r10d, r10d
    45  mov eax, 0x12e
    4a  syscall
unlimited.2:
no_ctrl:
     0  mov rdi, qword ptr gs:[0x230]
     9  test rdi, rdi
     c  je no_tid
    12  lea rax, [no_tid]
    19  mov qword ptr gs:[0x40], rax
    22  mov rax, qword ptr gs:[0x140]
    2b  mov dword ptr [rdi], eax
no_tid:
     0  mov qword ptr gs:[0x40], 0
     d  mov dword ptr gs:[0], 0
    19  mov rsp, qword ptr gs:[0xf8]
    22  add rsp, 0x3fc0
    29  push 0
    2b  mov edi, 2
    30  mov rsi, rsp
    33  xor edx, edx
    35  mov r10d, 8
    3b  mov eax, 0xe
    40  syscall
    42  add rsp, 8
    46  xor eax, eax
    48  jmp resume
op_enter:
     0  mov r14, rdi
     3  mov r15, rsi
     6  push 0
     8  mov edi, 2
     d  mov rsi, rsp
    10  xor edx, edx
    12  mov r10d, 8
    18  mov eax, 0xe
    1d  syscall
    1f  add rsp, 8
    23  mov rcx, r14
    26  mov rsp, r15
    29  xor eax, eax
    2b  xor ebx, ebx
    2d  xor edx, edx
    2f  xor esi, esi
    31  xor edi, edi
    33  xor ebp, ebp
    35  xor r8d, r8d
    38  xor r9d, r9d
    3b  xor r10d, r10d
    3e  xor r11d, r11d
    41  xor r12d, r12d
    44  xor r13d, r13d
    47  xor r14d, r14d
    4a  xor r15d, r15d
    4d  jmp exit_check
