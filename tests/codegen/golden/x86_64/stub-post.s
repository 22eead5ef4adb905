slow:
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
slow_saved:
     0  cld
     1  mov eax, eax
     3  mov qword ptr gs:[8], rax
     c  mov qword ptr gs:[0x10], rdi
    15  mov qword ptr gs:[0x18], rsi
    1e  mov qword ptr gs:[0x20], rdx
    27  mov qword ptr gs:[0x28], r10
    30  mov qword ptr gs:[0x30], r8
    39  mov qword ptr gs:[0x38], r9
    42  mov rsp, qword ptr gs:[0xf8]
    4b  lea r14, [rsp + 0x4000]
    53  add rsp, 0x4000
    5a  cmp eax, 0x200
    5f  jae post
    65  lea r12, [marshal_table]
    6c  shl rax, 5
    70  add r12, rax
    73  cmp qword ptr [r12], 0
    78  je post
    7e  lea r15, [r14 + 0x10000]
    85  xor r13d, r13d
    88  lea rax, [bad_address]
    8f  mov qword ptr gs:[0x40], rax
marshal_next:
     0  movzx eax, byte ptr [r12 + r13]
     5  test eax, eax
     7  je marshal_skip
     d  mov rsi, qword ptr gs:[r13*8 + 0x10]
    16  movzx edx, word ptr [r12 + r13*2 + 8]
    1c  cmp eax, 2
    1f  je copy_buffer
    25  cmp eax, 5
    28  je copy_stat
    2e  cmp eax, 6
    31  je copy_iovec
    37  test rsi, rsi
    3a  je copy_null
    40  cmp eax, 1
    43  je copy_path
    49  cmp eax, 4
    4c  je copy_vector
    52  mov ecx, edx
    54  jmp copy_bytes
copied:
     0  mov rax, rdi
     3  sub rax, r14
record:
     0  mov rcx, r14
     3  sub rcx, qword ptr gs:[0xf8]
     c  sub rcx, 0x4000
    13  shl rax, 0x20
    17  or rax, rcx
    1a  mov qword ptr gs:[r13*8 + 0x1c0], rax
    23  lea r14, [rdi + 7]
    27  and r14, 0xfffffffffffffff8
marshal_skip:
     0  inc r13
     3  cmp r13d, 6
     7  jne marshal_next
     d  mov qword ptr gs:[0x40], 0
    1a  jmp post
copy_null:
     0  mov eax, 0xffffffff
     5  mov rdi, r14
     8  jmp record
copy_buffer:
     0  mov ecx, edx
     2  and ecx, 7
     5  mov rcx, qword ptr gs:[rcx*8 + 0x10]
     e  mov eax, edx
    10  shr eax, 3
    13  imul rcx, rax
copy_bytes:
     0  mov rax, r15
     3  sub rax, r14
     6  cmp rcx, rax
     9  cmova rcx, rax
     d  mov rdi, r14
    10  rep movsb byte ptr [rdi], byte ptr [rsi]
    12  jmp copied
copy_path:
     0  mov rdi, r14
     3  lea rbx, [r14 + 0x1000]
path_byte:
     0  movzx eax, byte ptr [rsi]
     3  mov byte ptr [rdi], al
     5  test eax, eax
     7  je path_done
     d  inc rsi
    10  inc rdi
    13  cmp rdi, rbx
    16  jne path_byte
    1c  mov qword ptr gs:[0x40], 0
    29  mov rax, 0xffffffffffffffdc
    30  jmp resume
path_done:
     0  jmp copied
copy_stat:
     0  mov edi, esi
     2  mov rsi, r14
     5  mov eax, 5
     a  syscall
     c  test rax, rax
     f  lea rdi, [r14 + 0x90]
    16  je copied
    1c  mov qword ptr gs:[0x40], 0
    29  jmp resume
copy_vector:
     0  mov rdi, r14
     3  lea rbp, [r15 - 0x40]
vector_string:
     0  mov rbx, qword ptr [rsi]
     3  add rsi, 8
     7  test rbx, rbx
     a  je copied
vector_byte:
     0  cmp rdi, rbp
     3  jae vector_full
     9  movzx eax, byte ptr [rbx]
     c  mov byte ptr [rdi], al
     e  inc rbx
    11  inc rdi
    14  test eax, eax
    16  jne vector_byte
    1c  jmp vector_string
vector_full:
     0  mov eax, 0xfffffffe
     5  mov rdi, r14
     8  jmp record
copy_iovec:
     0  mov ecx, edx
     2  and ecx, 7
     5  mov rcx, qword ptr gs:[rcx*8 + 0x10]
     e  mov rbx, rcx
    11  mov rbp, rsi
    14  mov rdi, r14
iovec_entry:
     0  test rbx, rbx
     3  je copied
     9  mov rsi, qword ptr [rbp]
     d  mov rcx, qword ptr [rbp + 8]
    11  mov rax, r15
    14  sub rax, rdi
    17  cmp rcx, rax
    1a  jbe iovec_fits
    20  mov rcx, rax
    23  mov ebx, 1
iovec_fits:
     0  rep movsb byte ptr [rdi], byte ptr [rsi]
     2  add rbp, 0x10
     6  dec rbx
     9  jmp iovec_entry
post:
     0  call post_wait
reply:
     0  cmp qword ptr gs:[0xd0], 0
     a  jne program
    10  mov rcx, qword ptr gs:[0xe0]
    19  test rcx, rcx
    1c  je answer
    22  lea rax, [bad_address]
    29  mov qword ptr gs:[0x40], rax
    32  mov rsi, qword ptr gs:[0xf8]
    3b  add rsi, 0x4000
    42  mov rdi, qword ptr gs:[0xd8]
    4b  rep movsb byte ptr [rdi], byte ptr [rsi]
    4d  mov qword ptr gs:[0x40], 0
answer:
     0  mov rax, qword ptr gs:[0xc8]
resume:
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
    7e  jmp exit_check
bad_address:
     0  mov qword ptr gs:[0x40], 0
     d  mov rax, 0xfffffffffffffff2
    14  jmp resume
announce:
     0  mov dword ptr gs:[0], 1
ring:
     0  mov r11, qword ptr gs:[0x100]
     9  mov byte ptr [r11], 1
     d  lock or dword ptr [rsp], 0
    12  movabs r11, 0x680010000000
    1c  cmp dword ptr [r11], 0
    20  jne kernel_awake
    26  mov edi, 0x3ff
    2b  lea rsi, [one]
    32  mov edx, 8
    37  mov eax, 1
    3c  syscall
kernel_awake:
     0  ret
post_wait:
     0  call announce
     5  movabs r11, 0x680010000000
     f  mov eax, 0x7b
    14  lsl eax, eax
    17  and eax, 0xfff
    1c  cmp eax, dword ptr [r11 + 8]
    20  je sleep
    26  mov r10d, dword ptr [r11 + 4]
spin:
     0  mov eax, dword ptr gs:[0]
     8  cmp eax, 3
     b  je done
    11  cmp eax, 1
    14  jne sleep
    1a  pause
    1c  dec r10d
    1f  js sleep
    25  test r10d, 0xff
    2c  jne spin
    32  mov eax, 0x18
    37  syscall
    39  jmp spin
sleep:
     0  mov dword ptr gs:[0x110], 1
     c  lock or dword ptr [rsp], 0
    11  mov edx, dword ptr gs:[0]
    19  cmp edx, 3
    1c  je woken
    22  mov rdi, qword ptr gs:[0xf8]
    2b  xor esi, esi
    2d  xor r10d, r10d
    30  mov eax, 0xca
    35  syscall
    37  jmp sleep
woken:
     0  mov dword ptr gs:[0x110], 0
done:
     0  ret
