boot:
     0  mov r15, rsp
     3  sub rsp, 0x100
boot_receive:
     0  xor eax, eax
     2  mov qword ptr [rsp], rax
     6  mov qword ptr [rsp + 8], rax
     b  mov qword ptr [rsp + 0x30], rax
    10  lea rax, [rsp + 0x38]
    15  mov qword ptr [rsp + 0x10], rax
    1a  mov qword ptr [rsp + 0x18], 1
    23  lea rax, [rsp + 0x60]
    28  mov qword ptr [rsp + 0x20], rax
    2d  lea rax, [rsp + 0x48]
    32  mov qword ptr [rsp + 0x38], rax
    37  mov qword ptr [rsp + 0x40], 0x10
    40  mov qword ptr [rsp + 0x28], 0x18
    49  mov edi, 0x3fe
    4e  mov rsi, rsp
    51  mov edx, 0x40000000
    56  mov eax, 0x2f
    5b  syscall
    5d  cmp rax, -4
    61  je boot_receive
    67  cmp rax, 0x10
    6b  jne boot_failed
    71  cmp qword ptr [rsp + 0x50], 0
    77  jl boot_message
    7d  mov edi, dword ptr [rsp + 0x70]
    81  mov eax, 3
    86  syscall
    88  cmp qword ptr [rsp + 0x60], 0x18
    8e  jne one_received.2
    94  mov edi, dword ptr [rsp + 0x74]
    98  mov eax, 3
    9d  syscall
one_received.2:
     0  jmp boot_receive
boot_message:
     0  mov r14, qword ptr [rsp + 0x48]
     5  mov ebx, dword ptr [rsp + 0x70]
     9  mov r13d, dword ptr [rsp + 0x74]
     e  mov rdi, r14
    11  mov esi, 0x20000
    16  mov edx, 3
    1b  mov r10d, 0x11
    21  mov r8, rbx
    24  xor r9d, r9d
    27  mov eax, 9
    2c  syscall
    2e  mov rdi, rbx
    31  test rax, rax
    34  js boot_failed
    3a  mov eax, 3
    3f  syscall
    41  movabs r12, 0x680010000000
    4b  mov rdi, r12
    4e  mov esi, 0x1000
    53  mov edx, 3
    58  mov r10d, 0x11
    5e  mov r8, r13
    61  xor r9d, r9d
    64  mov eax, 9
    69  syscall
    6b  mov rdi, r13
    6e  test rax, rax
    71  js boot_failed
    77  mov eax, 3
    7c  syscall
    7e  mov rsi, r14
    81  mov edi, 0x1001
    86  mov eax, 0x9e
    8b  syscall
    8d  mov rdi, qword ptr gs:[0xf8]
    96  mov esi, 0x20000
    9b  mov edx, 0xa
    a0  mov eax, 0x1c
    a5  syscall
    a7  mov rdi, qword ptr gs:[0xf8]
    b0  add rdi, 0x2e0
    b7  xor esi, esi
    b9  mov eax, 0x83
    be  syscall
    c0  mov edi, 1
    c5  mov esi, 9
    ca  mov eax, 0x9d
    cf  syscall
    d1  lea rax, [handler]
    d8  mov qword ptr [rsp], rax
    dc  mov qword ptr [rsp + 8], 0xc000004
    e5  lea rax, [restorer]
    ec  mov qword ptr [rsp + 0x10], rax
    f1  mov qword ptr [rsp + 0x18], 0xffffffffffffffff
    fa  mov ebx, 1
handlers:
     0  cmp ebx, 9
     3  je handler_skip
     9  cmp ebx, 0x11
     c  je handler_skip
    12  cmp ebx, 0x12
    15  je handler_skip
    1b  cmp ebx, 0x13
    1e  je handler_skip
    24  mov edi, ebx
    26  mov rsi, rsp
    29  xor edx, edx
    2b  mov r10d, 8
    31  mov eax, 0xd
    36  syscall
handler_skip:
     0  inc ebx
     2  cmp ebx, 0x40
     5  jbe handlers
     b  movabs rcx, 0x100000000
    15  mov qword ptr gs:[8], rcx
    1e  mov qword ptr gs:[0x10], r15
    27  mov rcx, qword ptr [r15]
    2a  lea rsi, [r15 + rcx*8 + 0x10]
boot_environment:
     0  mov rax, qword ptr [rsi]
     3  add rsi, 8
     7  test rax, rax
     a  jne boot_environment
boot_auxiliary:
     0  mov rax, qword ptr [rsi]
     3  add rsi, 0x10
     7  test rax, rax
     a  jne boot_auxiliary
    10  mov rcx, rsi
    13  sub rcx, r15
    16  mov rsi, r15
    19  lea rdi, [r14 + 0x4000]
    20  rep movsb byte ptr [rdi], byte ptr [rsi]
    22  lea rsp, [r14 + 0x4000]
    29  jmp post
boot_failed:
     0  mov edi, 0x7f
     5  mov eax, 0xe7
     a  syscall
     c  ud2
