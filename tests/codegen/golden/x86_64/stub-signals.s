trap_before:
     0  int3
     1  ud2
trap_interrupted:
     0  int3
     1  ud2
trap_after:
     0  int3
     1  ud2
sigreturn:
     0  int3
     1  ud2
stub_broken:
     0  int3
     1  ud2
handler:
     0  mov qword ptr gs:[0x238], rsp
     9  mov rax, qword ptr [rdx + 0xa8]
    10  movabs rcx, 0x680000000000
    1a  mov r8, rax
    1d  sub r8, rcx
    20  cmp edi, 0x1f
    23  je on_sigsys
    29  cmp r8, 0x100000
    30  jb in_stub
    36  mov r9d, 1
    3c  cmp edi, 0x3e
    3f  je deliver
    45  cmp edi, 4
    48  je maybe_fault
    4e  cmp edi, 5
    51  je maybe_fault
    57  cmp edi, 7
    5a  je maybe_fault
    60  cmp edi, 8
    63  je maybe_fault
    69  cmp edi, 0xb
    6c  je maybe_fault
host_signal:
     0  mov eax, edi
     2  dec eax
     4  mov r10, qword ptr gs:[0x120]
     d  bts r10, rax
    11  mov qword ptr gs:[0x120], r10
    1a  jmp deliver
maybe_fault:
     0  cmp dword ptr [rsi + 8], 0
     4  jle host_signal
     a  mov r9d, 5
deliver:
     0  mov qword ptr gs:[0x228], r9
     9  mov qword ptr gs:[0x10], rdi
    12  mov qword ptr gs:[0x18], rsi
    1b  mov qword ptr gs:[0x20], rdx
    24  movabs rcx, 0x100000001
    2e  mov qword ptr gs:[8], rcx
    37  jmp post
handler_return:
     0  mov rsp, qword ptr gs:[0x238]
     9  add rsp, 8
     d  mov eax, 0xf
    12  syscall
    14  ud2
on_sigsys:
     0  mov r9d, 7
     6  cmp r8, 0x100000
     d  jb deliver
    13  mov rcx, qword ptr gs:[0x128]
    1c  mov r10, rcx
    1f  inc rcx
    22  mov qword ptr gs:[0x128], rcx
    2b  and r10d, 0xf
    2f  mov qword ptr gs:[r10*8 + 0x350], rax
    38  mov qword ptr [rdx + 0x98], rax
    3f  lea rax, [entry]
    46  mov qword ptr [rdx + 0xa8], rax
    4d  jmp handler_return
in_stub:
     0  cmp edi, 0xb
     3  je stub_fault
     9  cmp edi, 7
     c  je stub_fault
    12  jmp not_copy
stub_fault:
     0  mov r9d, 7
     6  mov rcx, qword ptr gs:[0x40]
     f  test rcx, rcx
    12  je deliver
    18  mov qword ptr [rdx + 0xa8], rcx
    1f  jmp handler_return
not_copy:
     0  cmp edi, 5
     3  jne asynchronous
     9  lea rcx, [trap_before]
    10  inc rcx
    13  cmp rax, rcx
    16  jne other_trap.1
    1c  mov r9d, 2
    22  mov rax, qword ptr [rdx + 0x98]
    29  sub rax, 2
    2d  mov qword ptr [rdx + 0xa8], rax
    34  jmp deliver
other_trap.1:
     0  lea rcx, [trap_interrupted]
     7  inc rcx
     a  cmp rax, rcx
     d  jne other_trap.2
    13  mov r9d, 3
    19  mov rax, qword ptr [rdx + 0x98]
    20  mov qword ptr [rdx + 0xa8], rax
    27  jmp deliver
other_trap.2:
     0  lea rcx, [trap_after]
     7  inc rcx
     a  cmp rax, rcx
     d  jne other_trap.3
    13  mov r9d, 4
    19  mov rax, qword ptr [rdx + 0x98]
    20  mov qword ptr [rdx + 0xa8], rax
    27  jmp deliver
other_trap.3:
     0  lea rcx, [sigreturn]
     7  inc rcx
     a  cmp rax, rcx
     d  jne other_trap.4
    13  mov r9d, 6
    19  mov rax, qword ptr [rdx + 0x98]
    20  mov qword ptr [rdx + 0xa8], rax
    27  jmp deliver
other_trap.4:
     0  lea rcx, [stub_broken]
     7  inc rcx
     a  cmp rax, rcx
     d  jne other_trap.5
    13  mov r9d, 7
    19  jmp deliver
other_trap.5:
     0  mov r9d, 7
     6  jmp deliver
asynchronous:
     0  cmp edi, 0x3e
     3  je windows
     9  mov r11, rax
     c  mov eax, edi
     e  dec eax
    10  mov r10, qword ptr gs:[0x120]
    19  bts r10, rax
    1d  mov qword ptr gs:[0x120], r10
    26  mov rax, r11
    29  mov dword ptr gs:[0x114], 1
windows:
     0  lea rcx, [native_check]
     7  cmp rax, rcx
     a  jb outside_window.1
    10  lea r8, [native_call]
    17  cmp rax, r8
    1a  ja outside_window.1
    20  mov qword ptr [rdx + 0xa8], rcx
    27  jmp handler_return
outside_window.1:
     0  lea rcx, [exit_check]
     7  cmp rax, rcx
     a  jb outside_window.2
    10  lea r8, [exit_jump]
    17  cmp rax, r8
    1a  ja outside_window.2
    20  mov qword ptr [rdx + 0xa8], rcx
    27  jmp handler_return
outside_window.2:
     0  lea rcx, [hostcall_check]
     7  cmp rax, rcx
     a  jb outside_window.3
    10  lea r8, [hostcall_call]
    17  cmp rax, r8
    1a  ja outside_window.3
    20  mov qword ptr [rdx + 0xa8], rcx
    27  jmp handler_return
outside_window.3:
     0  lea rcx, [watch_check]
     7  cmp rax, rcx
     a  jb outside_window.4
    10  lea r8, [watch_call]
    17  cmp rax, r8
    1a  ja outside_window.4
    20  mov qword ptr [rdx + 0xa8], rcx
    27  jmp handler_return
outside_window.4:
     0  cmp qword ptr gs:[0x120], 0
     a  je handler_return
    10  cmp dword ptr gs:[0], 3
    19  je handler_return
    1f  mov dword ptr gs:[4], 1
    2b  call ring
    30  jmp handler_return
restorer:
     0  mov eax, 0xf
     5  syscall
     7  ud2
