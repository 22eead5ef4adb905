next_request:
     0  push rbx
     1  push rbp
     2  push r12
     4  push r13
     6  push r14
     8  push r15
     a  sub rsp, 0x108
    11  lea rax, [control]
    18  mov rbx, qword ptr [rax]
    1b  mov r13, qword ptr [rbx + 0x20]
    1f  mov rsi, qword ptr [rbx]
    22  mov eax, 0x7b
    27  lsl eax, eax
    2a  jne same_cpu
    30  and eax, 0xfff
    35  cmp eax, dword ptr [rsi - 0x38]
    38  je same_cpu
    3e  mov dword ptr [rsi - 0x38], eax
same_cpu:
afresh:
     0  mov r12, qword ptr [rbx + 0x18]
look:
     0  mov rsi, qword ptr [rbx]
     3  mov rdx, qword ptr [rbx + 8]
     7  mov r14, qword ptr [rbx + 0x10]
     b  mov rcx, rdx
look_more:
     0  test rcx, rcx
     3  je none
     9  cmp r14, rdx
     c  jb one
    12  xor r14d, r14d
one:
     0  lea rax, [r14 + 8]
     4  cmp rax, rdx
     7  ja single
     d  cmp qword ptr [rsi + r14], 0
    12  jne single
    18  mov r14, rax
    1b  sub rcx, 8
    1f  ja look_more
    25  jmp none
single:
     0  cmp byte ptr [rsi + r14], 0
     5  jne rings
     b  inc r14
     e  dec rcx
    11  jmp look_more
none:
     0  pause
     2  dec r12
     5  jne look
     b  mov rdi, 0xffffffffffffffff
give_back:
     0  call qword ptr [rbx + 0x58]
     3  add rsp, 0x108
     a  pop r15
     c  pop r14
     e  pop r13
    10  pop r12
    12  pop rbp
    13  pop rbx
    14  ret
rings:
     0  xor eax, eax
     2  xchg byte ptr [rsi + r14], al
     6  lea rax, [r14 + 1]
     a  mov qword ptr [rbx + 0x10], rax
     e  mov r15, r14
    11  shl r15, 6
    15  add r15, qword ptr [rbx + 0x30]
    19  mov rbp, qword ptr [r15]
    1c  test rbp, rbp
    1f  je python
    25  cmp qword ptr [r15 + 0x28], 0
    2a  jne python
    30  cmp qword ptr [rbp], 1
    35  jne python
    3b  cmp qword ptr [rbp + 0x120], 0
    43  jne python
    49  mov rax, qword ptr [rbp + 0x128]
    50  sub rax, qword ptr [r15 + 0x20]
    54  cmp rax, 8
    58  jae python
    5e  mov rax, qword ptr [rbp + 8]
    62  cmp rax, 0x200
    68  jae python
    6e  mov rcx, qword ptr [rbx + 0x28]
    72  movzx r10d, byte ptr [rcx + rax]
    77  test r10d, r10d
    7a  jne known
plain:
     0  or r14, 0x10000
python:
     0  mov rdi, r14
     3  jmp give_back
known:
     0  cmp r10d, 5
     4  je fstat_key
     a  xor r8d, r8d
     d  test r10d, 8
    14  setne r8b
    18  mov rdx, qword ptr [rbp + r8*8 + 0x1c0]
    20  mov r11, rdx
    23  shr r11, 0x20
    27  mov edx, edx
    29  lea rax, [r11 - 1]
    2d  cmp rax, 0x80
    33  jae plain
    39  cmp rdx, 0xff80
    40  ja plain
    46  lea rsi, [rbp + rdx + 0x4000]
    4e  xor ecx, ecx
copy:
     0  lea rax, [rcx + 8]
     4  cmp rax, r11
     7  ja tail
     d  mov rdx, qword ptr [rsi + rcx]
    11  mov qword ptr [rsp + rcx], rdx
    15  mov rcx, rax
    18  jmp copy
tail:
     0  cmp rcx, r11
     3  jae copied
     9  mov rdx, qword ptr [rsi + rcx]
     d  mov rdi, rcx
    10  sub rcx, r11
    13  add rcx, 8
    17  shl ecx, 3
    1a  shl rdx, cl
    1d  shr rdx, cl
    20  mov qword ptr [rsp + rdi], rdx
copied:
     0  mov r9, qword ptr [r15 + 8]
     4  cmp byte ptr [rsp], 0x2f
     8  je absolute
     e  mov r9, qword ptr [r15 + 0x10]
    12  test r8d, r8d
    15  je absolute
    1b  cmp dword ptr [rbp + 0x10], -0x64
    1f  jne plain
absolute:
     0  test r9, r9
     3  je plain
     9  add r9, r9
     c  test r10d, 0x20
    13  je no_flags
    19  mov eax, dword ptr [rbp + 0x28]
    1c  test eax, eax
    1e  je follows
    24  cmp eax, 0x100
    29  jne plain
    2f  inc r9
no_flags:
     0  test r10d, 0x10
     7  je follows
     d  inc r9
follows:
find:
     0  movabs rdi, 0x9e3779b97f4a7c15
     a  mov rax, r9
     d  xor ecx, ecx
hash_words:
     0  xor rax, qword ptr [rsp + rcx]
     4  imul rax, rdi
     8  mov rdx, rax
     b  shr rdx, 0x1d
     f  xor rax, rdx
    12  add rcx, 8
    16  cmp rcx, r11
    19  jb hash_words
    1f  mov rsi, rax
    22  shr rsi, 0x35
    26  imul rsi, rsi, 0x600
    2d  add rsi, qword ptr [rbx + 0x38]
    31  mov edx, 2
entry:
     0  cmp qword ptr [rsi], rax
     3  jne miss
     9  cmp qword ptr [rsi + 8], r9
     d  jne miss
    13  cmp qword ptr [rsi + 0x20], r11
    17  jne miss
    1d  mov rcx, qword ptr [rbx + 0x38]
    21  mov rcx, qword ptr [rcx - 8]
    25  cmp qword ptr [rsi + 0x10], rcx
    29  jne miss
    2f  xor ecx, ecx
entry_bytes:
     0  mov rdi, qword ptr [rsp + rcx]
     4  cmp rdi, qword ptr [rsi + rcx + 0x28]
     9  jne miss
     f  add rcx, 8
    13  cmp rcx, r11
    16  jb entry_bytes
    1c  jmp found
miss:
     0  add rsi, 0x300
     7  dec edx
     9  jne entry
     f  jmp plain
found:
     0  mov r11d, dword ptr [rsi + 0x18]
     4  mov eax, dword ptr [r15 + 0x18]
     8  not eax
     a  and eax, r11d
     d  test eax, 1
    12  jne plain
    18  and r10d, 7
    1c  cmp r10d, 2
    20  je open
    26  cmp r10d, 3
    2a  je access
    30  cmp r10d, 4
    34  je readlink
    3a  cmp r10d, 5
    3e  je fstat
    44  test r11d, 4
    4b  jne enoent
    51  test r11d, 8
    58  je plain
    5e  add rsi, 0xa8
    65  mov rcx, qword ptr [rbx + 0x48]
    69  xor edx, edx
copy_out:
     0  mov rax, qword ptr [rbp + r8*8 + 0x18]
     5  mov qword ptr [rbp + 0xd8], rax
     c  mov qword ptr [rbp + 0xe0], rcx
    13  lea rdi, [rbp + 0x4000]
    1a  rep movsb byte ptr [rdi], byte ptr [rsi]
    1c  mov rax, rdx
    1f  jmp answer_out
fstat_key:
     0  movabs rax, 0x9000000000
     a  cmp rax, qword ptr [rbp + 0x1c0]
    11  jne plain
    17  mov rax, qword ptr [rbp + 0x4000]
    1e  mov qword ptr [rsp], rax
    22  mov rax, qword ptr [rbp + 0x4008]
    29  mov qword ptr [rsp + 8], rax
    2e  mov r11d, 0x10
    34  mov r9d, 2
    3a  xor r8d, r8d
    3d  jmp follows
fstat:
     0  mov rax, qword ptr [rsi + 0xa8]
     7  mov qword ptr [rbp + 0x4000], rax
     e  mov rax, qword ptr [rsi + 0xb0]
    15  mov qword ptr [rbp + 0x4008], rax
    1c  mov rax, qword ptr [rsi + 0xc4]
    23  mov qword ptr [rbp + 0x401c], rax
    2a  mov rax, qword ptr [rsi + 0xd0]
    31  mov qword ptr [rbp + 0x4028], rax
    38  test r11d, 0x80
    3f  jne live_mode
    45  mov eax, dword ptr [rsi + 0xc0]
    4b  mov dword ptr [rbp + 0x4018], eax
live_mode:
     0  mov rax, qword ptr [rbp + 0x18]
     4  mov qword ptr [rbp + 0xd8], rax
     b  mov qword ptr [rbp + 0xe0], 0x90
    16  xor eax, eax
    18  jmp answer_out
access:
     0  mov eax, dword ptr [rbp + r8*8 + 0x18]
     5  test r11d, 4
     c  je there
    12  cmp eax, 7
    15  jbe enoent
    1b  jmp plain
there:
     0  test eax, eax
     2  je answer
     8  jmp plain
readlink:
     0  mov eax, dword ptr [rbp + r8*8 + 0x20]
     5  test eax, eax
     7  jle plain
     d  test r11d, 4
    14  jne enoent
    1a  test r11d, 0x10
    21  jne link_text
    27  test r11d, 0x20
    2e  je plain
    34  mov rax, 0xffffffffffffffea
    3b  jmp answer
link_text:
     0  mov ecx, dword ptr [rsi + 0x1c]
     3  cmp rcx, rax
     6  cmova rcx, rax
     a  mov rdx, rcx
     d  add rsi, 0x138
    14  jmp copy_out
open:
     0  mov r10d, dword ptr [rbp + r8*8 + 0x18]
     5  test dword ptr [rbx + 0x50], r10d
     9  jne plain
     f  test r11d, 4
    16  jne enoent
    1c  test r11d, 0x40
    23  je plain
    29  test eax, 2
    2e  jne plain
    34  lea rdi, [rsi + 0x138]
    3b  mov esi, r10d
    3e  and esi, 0x800
    44  or esi, 0x80000
    4a  mov eax, 2
    4f  syscall
    51  test rax, rax
    54  js plain
    5a  mov r9, rax
    5d  mov r8, qword ptr [r15 + 0x38]
    61  inc r8
    64  mov r8d, r8d
    67  mov qword ptr [r15 + 0x38], r8
    6b  mov rdx, r14
    6e  shl rdx, 0x11
    72  movabs rax, 0x680020000000
    7c  add rax, rdx
    7f  mov qword ptr [rsp + 0xc8], rax
    87  shr r10d, 0x13
    8b  and r10d, 1
    8f  lea rax, [r10 + r8*2]
    93  mov qword ptr [rsp + 0xd0], rax
    9b  lea rax, [rsp + 0xc8]
    a3  mov qword ptr [rsp + 0xb8], rax
    ab  mov qword ptr [rsp + 0xc0], 0x10
    b7  xor eax, eax
    b9  mov qword ptr [rsp + 0x80], rax
    c1  mov qword ptr [rsp + 0x88], rax
    c9  mov qword ptr [rsp + 0xb0], rax
    d1  lea rax, [rsp + 0xb8]
    d9  mov qword ptr [rsp + 0x90], rax
    e1  mov qword ptr [rsp + 0x98], 1
    ed  lea rax, [rsp + 0xd8]
    f5  mov qword ptr [rsp + 0xa0], rax
    fd  mov qword ptr [rsp + 0xa8], 0x18
   109  mov qword ptr [rsp + 0xd8], 0x14
   115  movabs rax, 0x100000001
   11f  mov qword ptr [rsp + 0xe0], rax
   127  mov qword ptr [rsp + 0xe8], r9
   12f  mov edi, dword ptr [r15 + 0x30]
   133  lea rsi, [rsp + 0x80]
   13b  mov edx, 0x40
   140  mov eax, 0x2e
   145  syscall
   147  mov rdx, rax
   14a  mov edi, r9d
   14d  mov eax, 3
   152  syscall
   154  test rdx, rdx
   157  js plain
   15d  shl r10d, 7
   161  lea rsi, [rbx + r10 + 0x80]
   169  lea rdi, [rbp + 0x400]
   170  mov ecx, 0x10
   175  rep movsq qword ptr [rdi], qword ptr [rsi]
   178  mov qword ptr [rbp + 0x428], r8
   17f  mov qword ptr [rbp + 0xd0], 2
   18a  jmp done
enoent:
     0  mov rax, 0xfffffffffffffffe
answer:
     0  mov qword ptr [rbp + 0xe0], 0
answer_out:
     0  mov qword ptr [rbp + 0xc8], rax
     7  mov qword ptr [rbp + 0xd0], 0
done:
     0  inc qword ptr [rbx + 0x68]
     4  mov rdi, rbp
     7  call wake
     c  dec r13
     f  jne same_cpu
    15  mov rdi, 0xfffffffffffffffe
    1c  jmp give_back
wake:
     0  mov dword ptr [rdi], 3
     6  lock or dword ptr [rsp], 0
     b  cmp dword ptr [rdi + 0x110], 0
    12  je awake
    18  mov esi, 1
    1d  mov edx, 0x7fffffff
    22  mov eax, 0xca
    27  syscall
awake:
     0  ret
publish:
     0  push rbx
     1  lea rax, [control]
     8  mov rbx, qword ptr [rax]
     b  mov rdi, rsi
     e  call qword ptr [rbx + 0x60]
    11  mov rdi, rax
    14  call wake
    19  xor edi, edi
    1b  call qword ptr [rbx + 0x58]
    1e  pop rbx
    1f  ret
