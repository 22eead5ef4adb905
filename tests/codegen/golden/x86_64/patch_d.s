; before
0x0	b8 27 00 00 00	mov eax, 0x27
0x5	48 83 ff 07	cmp rdi, 7
0x9	ba 01 00 00 00	mov edx, 1
0xe	0f 94 c2	sete dl
0x11	81 e6 80 00 00 00	and esi, 0x80
0x17	48 89 df	mov rdi, rbx
0x1a	0f 05	syscall
0x1c	c3	ret

; after
0x0	b8 27 00 00 00	mov eax, 0x27
0x5	48 83 ff 07	cmp rdi, 7
0x9	ba 01 00 00 00	mov edx, 1
0xe	0f 94 c2	sete dl
0x11	0f 1f 40 00	nop dword ptr [rax]
0x15	ff 24 25 28 00 0f 05	jmp qword ptr [0x50f0028]
0x1c	c3	ret

; trampoline of slot 5, tactic D
0x51000a0	81 e6 80 00 00 00	and esi, 0x80
0x51000a6	48 89 df	mov rdi, rbx
0x51000a9	48 8b 0c 25 28 00 14 05	mov rcx, qword ptr [0x5140028]
0x51000b1	ff 24 25 f8 ff 0f 05	jmp qword ptr [0x50ffff8]
