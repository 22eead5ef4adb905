; before
0x0	b8 27 00 00 00	mov eax, 0x27
0x5	48 8d 3d 00 00 00 00	lea rdi, [rip]
0xc	0f 05	syscall
0xe	85 c0	test eax, eax
0x10	c3	ret
0x29	48 87 db	xchg rbx, rbx
0x2c	fc	cld
0x2d	c3	ret
0x2e	66 90	nop
0x90	48 87 db	xchg rbx, rbx
0x94	fc	cld
0x95	c3	ret
0x96	66 90	nop
0xa4	48 87 db	xchg rbx, rbx
0xa7	c3	ret
0xa8	0f 1f 84 00 00 00 00 00	nop dword ptr [rax + rax]

; after
0x0	b8 27 00 00 00	mov eax, 0x27
0x5	48 8d 3d 00 00 00 00	lea rdi, [rip]
0xc	eb 20	jmp 0x2e
0xe	85 c0	test eax, eax
0x10	c3	ret
0x29	48 87 db	xchg rbx, rbx
0x2c	fc	cld
0x2d	c3	ret
0x2e	eb 78	jmp 0xa8
0x90	48 87 db	xchg rbx, rbx
0x94	fc	cld
0x95	c3	ret
0x96	66 90	nop
0xa4	48 87 db	xchg rbx, rbx
0xa7	c3	ret
0xa8	e9 03 00 00 00	jmp 0xb0
0xad	00 00	add byte ptr [rax], al

; behind the segment
0xb0	ff 24 25 28 00 0f 05	jmp qword ptr [0x50f0028]

; trampoline of slot 5, tactic B-hop
0x51000a0	48 8b 0c 25 28 00 14 05	mov rcx, qword ptr [0x5140028]
0x51000a8	ff 24 25 f8 ff 0f 05	jmp qword ptr [0x50ffff8]
