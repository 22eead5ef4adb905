entry:
     0  inc qword ptr gs:[0x178]
     9  cmp eax, 0x200
     e  jae slow
    14  mov eax, eax
    16  lea r11, [dispatch_table]
    1d  jmp qword ptr [r11 + rax*8]
native:
     0  mov qword ptr gs:[0xe8], rcx
     9  mov qword ptr gs:[0xf0], rax
native_check:
     0  cmp dword ptr gs:[0x114], 0
     9  jne trap_before
native_call:
     0  syscall
     2  mov rcx, qword ptr gs:[0xe8]
     b  lea r11, [rax + 5]
     f  cmp r11, 1
    13  jbe trap_interrupted
exit_check:
     0  cmp dword ptr gs:[0x114], 0
     9  jne trap_after
exit_jump:
     0  jmp rcx
fd0:
     0  mov r11d, edi
     3  cmp r11d, 0x1000
     a  jae slow
    10  add r11, qword ptr gs:[0x108]
    19  cmp byte ptr [r11], 0
    1d  jne slow
    23  jmp native
fd01:
     0  mov r11d, edi
     3  cmp r11d, 0x1000
     a  jae slow
    10  add r11, qword ptr gs:[0x108]
    19  cmp byte ptr [r11], 0
    1d  jne slow
    23  mov r11d, esi
    26  cmp r11d, 0x1000
    2d  jae slow
    33  add r11, qword ptr gs:[0x108]
    3c  cmp byte ptr [r11], 0
    40  jne slow
    46  jmp native
fd02:
     0  mov r11d, edi
     3  cmp r11d, 0x1000
     a  jae slow
    10  add r11, qword ptr gs:[0x108]
    19  cmp byte ptr [r11], 0
    1d  jne slow
    23  mov r11d, edx
    26  cmp r11d, 0x1000
    2d  jae slow
    33  add r11, qword ptr gs:[0x108]
    3c  cmp byte ptr [r11], 0
    40  jne slow
    46  jmp native
if_fifth_null:
     0  test r8, r8
     3  jne slow
     9  jmp fd0
if_second_null:
     0  test rsi, rsi
     3  jne slow
     9  jmp fd0
if_fourth_null:
     0  test r10, r10
     3  jne slow
     9  jmp native
if_sixth_null:
     0  test r9, r9
     3  jne slow
     9  jmp native
fd0_sockopt:
     0  cmp esi, 1
     3  je slow
     9  cmp esi, 0x29
     c  jne fd0
    12  cmp edx, 0x1a
    15  je slow
    1b  jmp fd0
futex:
     0  mov r11d, esi
     3  and r11d, 0x7f
     7  cmp r11d, 6
     b  je slow
    11  cmp r11d, 7
    15  je slow
    1b  cmp r11d, 8
    1f  je slow
    25  cmp r11d, 0xb
    29  je slow
    2f  cmp r11d, 0xc
    33  je slow
    39  cmp r11d, 0xd
    3d  je slow
    43  jmp native
arch_prctl:
     0  lea r11, [rdi - 0x1002]
     7  cmp r11, 1
     b  ja slow
    11  jmp native
mprotect:
mem:
     0  mov r11, rdi
     3  shr r11, 0x20
     7  cmp r11d, 0x6801
     e  jae outside.1
    14  mov r11, rdi
    17  add r11, rsi
    1a  jb slow
    20  shr r11, 0x20
    24  cmp r11d, 0x6800
    2b  jae slow
outside.1:
     0  jmp native
mremap:
     0  test r10d, 2
     7  jne slow
     d  jmp mprotect
mmap:
     0  test r10d, 0x100010
     7  je outside.2
     d  mov r11, rdi
    10  shr r11, 0x20
    14  cmp r11d, 0x6801
    1b  jae outside.2
    21  mov r11, rdi
    24  add r11, rsi
    27  jb slow
    2d  shr r11, 0x20
    31  cmp r11d, 0x6800
    38  jae slow
outside.2:
mmap_movable:
     0  test r10d, 0x20
     7  jne native
     d  test edx, 4
    13  jne slow
    19  mov r11d, r8d
    1c  cmp r11d, 0x1000
    23  jae slow
    29  add r11, qword ptr gs:[0x108]
    32  cmp byte ptr [r11], 0
    36  jne slow
    3c  jmp native
ioctl:
     0  mov r11d, edi
     3  cmp r11d, 0x1000
     a  jae slow
    10  add r11, qword ptr gs:[0x108]
    19  cmp byte ptr [r11], 0
    1d  jne slow
    23  mov r11d, esi
    26  shr r11d, 8
    2a  cmp r11d, 0x54
    2e  jne slow
    34  cmp esi, 0x540e
    3a  je slow
    40  cmp esi, 0x540f
    46  je slow
    4c  cmp esi, 0x5410
    52  je slow
    58  cmp esi, 0x5412
    5e  je slow
    64  cmp esi, 0x541c
    6a  je slow
    70  cmp esi, 0x5422
    76  je slow
    7c  cmp esi, 0x5429
    82  je slow
    88  cmp esi, 0x5441
    8e  je slow
    94  jmp native
fcntl:
     0  mov r11d, edi
     3  cmp r11d, 0x1000
     a  jae slow
    10  add r11, qword ptr gs:[0x108]
    19  cmp byte ptr [r11], 0
    1d  jne slow
    23  cmp esi, 4
    26  jbe native
    2c  cmp esi, 6
    2f  je native
    35  cmp esi, 7
    38  je native
    3e  cmp esi, 0x24
    41  je native
    47  cmp esi, 0x25
    4a  je native
    50  cmp esi, 0x26
    53  je native
    59  cmp esi, 0x406
    5f  je native
    65  cmp esi, 0x407
    6b  je native
    71  cmp esi, 0x408
    77  je native
    7d  cmp esi, 0x409
    83  je native
    89  cmp esi, 0x40a
    8f  je native
    95  jmp slow
newfstatat:
     0  cmp r10d, 0x1000
     7  jne slow
     d  lea r11, [newfstatat_named]
    14  mov qword ptr gs:[0x40], r11
    1d  cmp byte ptr [rsi], 0
    20  jne newfstatat_named
    26  mov qword ptr gs:[0x40], 0
    33  mov qword ptr gs:[0x48], rbx
    3c  mov qword ptr gs:[0x50], rbp
    45  mov qword ptr gs:[0x58], rsp
    4e  mov qword ptr gs:[0x60], rcx
    57  mov qword ptr gs:[0x68], r12
    60  mov qword ptr gs:[0x70], r13
    69  mov qword ptr gs:[0x78], r14
    72  mov qword ptr gs:[0x80], r15
    7b  mov qword ptr gs:[0x88], rdi
    84  mov qword ptr gs:[0x90], rsi
    8d  mov qword ptr gs:[0x98], rdx
    96  mov qword ptr gs:[0xa0], r10
    9f  mov qword ptr gs:[0xa8], r8
    a8  mov qword ptr gs:[0xb0], r9
    b1  mov eax, 5
    b6  mov rsi, rdx
    b9  jmp slow_saved
newfstatat_named:
     0  mov qword ptr gs:[0x40], 0
     d  jmp slow
wait4:
     0  mov r11d, dword ptr gs:[0x330]
     9  test r11d, r11d
     c  je slow
    12  test edx, 0xfffffff5
    18  jne slow
    1e  cmp edi, r11d
    21  je wait4_watched
    27  cmp edi, -1
    2a  jne slow
wait4_watched:
     0  mov qword ptr gs:[0x48], rbx
     9  mov qword ptr gs:[0x50], rbp
    12  mov qword ptr gs:[0x58], rsp
    1b  mov qword ptr gs:[0x60], rcx
    24  mov qword ptr gs:[0x68], r12
    2d  mov qword ptr gs:[0x70], r13
    36  mov qword ptr gs:[0x78], r14
    3f  mov qword ptr gs:[0x80], r15
    48  mov qword ptr gs:[0x88], rdi
    51  mov qword ptr gs:[0x90], rsi
    5a  mov qword ptr gs:[0x98], rdx
    63  mov qword ptr gs:[0xa0], r10
    6c  mov qword ptr gs:[0xa8], r8
    75  mov qword ptr gs:[0xb0], r9
    7e  mov rdi, qword ptr gs:[0xf8]
    87  add rdi, 0x338
    8e  mov esi, 1
    93  xor edx, edx
    95  xor r10d, r10d
    98  xor r8d, r8d
    9b  mov eax, 0x10f
watch_check:
     0  cmp dword ptr gs:[0x114], 0
     9  jne watch_over
watch_call:
     0  syscall
watch_over:
     0  mov rbx, qword ptr gs:[0x48]
     9  mov rbp, qword ptr gs:[0x50]
    12  mov rsp, qword ptr gs:[0x58]
    1b  mov rcx, qword ptr gs:[0x60]
    24  mov r12, qword ptr gs:[0x68]
    2d  mov r13, qword ptr gs:[0x70]
    36  mov r14, qword ptr gs:[0x78]
    3f  mov r15, qword ptr gs:[0x80]
    48  mov rdi, qword ptr gs:[0x88]
    51  mov rsi, qword ptr gs:[0x90]
    5a  mov rdx, qword ptr gs:[0x98]
    63  mov r10, qword ptr gs:[0xa0]
    6c  mov r8, qword ptr gs:[0xa8]
    75  mov r9, qword ptr gs:[0xb0]
    7e  mov eax, 0x3d
    83  jmp slow_saved
getpid:
     0  mov rax, qword ptr gs:[0x148]
     9  jmp exit_check
gettid:
     0  mov rax, qword ptr gs:[0x140]
     9  jmp exit_check
getppid:
     0  mov rax, qword ptr gs:[0x150]
     9  jmp exit_check
getuid:
     0  mov rax, qword ptr gs:[0x158]
     9  jmp exit_check
geteuid:
     0  mov rax, qword ptr gs:[0x160]
     9  jmp exit_check
getgid:
     0  mov rax, qword ptr gs:[0x168]
     9  jmp exit_check
getegid:
     0  mov rax, qword ptr gs:[0x170]
     9  jmp exit_check
set_tid_address:
     0  mov qword ptr gs:[0xe8], rcx
     9  syscall
     b  mov rcx, qword ptr gs:[0xe8]
    14  mov rax, qword ptr gs:[0x140]
    1d  jmp exit_check
set_robust_list:
     0  cmp rsi, 0x18
     4  jne native
     a  mov qword ptr gs:[0x300], rdi
    13  jmp native
exit:
     0  mov rsp, qword ptr gs:[0xf8]
     9  add rsp, 0x4000
    10  mov qword ptr gs:[0x10], rdi
    19  mov qword ptr gs:[0xf0], rax
    22  mov rsi, qword ptr gs:[0x300]
    2b  test rsi, rsi
    2e  je no_list
    34  lea rcx, [no_list]
    3b  mov qword ptr gs:[0x40], rcx
    44  cmp qword ptr [rsi], rsi
    47  jne exit_ask
    4d  cmp qword ptr [rsi + 0x10], 0
    52  jne exit_ask
no_list:
     0  cmp eax, 0xe7
     5  jne exit_announce
     b  cmp dword ptr gs:[0x308], 0
    14  jne exit_ask
    1a  mov qword ptr gs:[0x40], 0
    27  mov qword ptr gs:[8], rax
    30  mov dword ptr gs:[0], 1
    3c  syscall
    3e  ud2
exit_ask:
     0  mov qword ptr gs:[0x40], 0
     d  mov qword ptr gs:[0x18], rax
    16  movabs rcx, 0x100000004
    20  mov qword ptr gs:[8], rcx
    29  jmp post
exit_announce:
     0  mov qword ptr gs:[0x40], 0
     d  mov qword ptr gs:[8], rax
    16  push rdi
    17  call announce
    1c  pop rdi
    1d  mov rax, qword ptr gs:[0xf0]
    26  syscall
    28  ud2
