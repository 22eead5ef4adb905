; before
0x0	b8 27 00 00 00	mov eax, 0x27
0x5	48 8d 3d 00 00 00 00	lea rdi, [rip]
0xc	0f 05	syscall
0xe	85 c0	test eax, eax
0x10	c3	ret
0x1a	48 87 db	xchg rbx, rbx
0x1d	fc	cld
0x1e	c3	ret
0x1f	66 0f 1f 84 00 00 00 00 00	nop word ptr [rax + rax]

; after
0x0	b8 27 00 00 00	mov eax, 0x27
0x5	48 8d 3d 00 00 00 00	lea rdi, [rip]
0xc	eb 11	jmp 0x1f
0xe	85 c0	test eax, eax
0x10	c3	ret
0x1a	48 87 db	xchg rbx, rbx
0x1d	fc	cld
0x1e	c3	ret
0x1f	ff 24 25 28 00 0f 05	jmp qword ptr [0x50f0028]
0x26	00 00	add byte ptr [rax], al

; trampoline of slot 5, tactic B
0x51000a0	48 8b 0c 25 28 00 14 05	mov rcx, qword ptr [0x5140028]
0x51000a8	ff 24 25 f8 ff 0f 05	jmp qword ptr [0x50ffff8]
