; before
0x0	b8 27 00 00 00	mov eax, 0x27
0x5	4d 8b 54 24 20	mov r10, qword ptr [r12 + 0x20]
0xa	48 ba 78 56 34 12 78 56 34 12	movabs rdx, 0x1234567812345678
0x14	0f 05	syscall
0x16	c3	ret

; after
0x0	b8 27 00 00 00	mov eax, 0x27
0x5	4d 8b 54 24 20	mov r10, qword ptr [r12 + 0x20]
0xa	0f 1f 44 00 00	nop dword ptr [rax + rax]
0xf	ff 24 25 28 00 0f 05	jmp qword ptr [0x50f0028]
0x16	c3	ret

; trampoline of slot 5, tactic D1
0x51000a0	48 ba 78 56 34 12 78 56 34 12	movabs rdx, 0x1234567812345678
0x51000aa	48 8b 0c 25 28 00 14 05	mov rcx, qword ptr [0x5140028]
0x51000b2	ff 24 25 f8 ff 0f 05	jmp qword ptr [0x50ffff8]
