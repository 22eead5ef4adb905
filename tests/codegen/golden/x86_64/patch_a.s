; before
0x0	53	push rbx
0x1	bf 01 00 00 00	mov edi, 1
0x6	b8 27 00 00 00	mov eax, 0x27
0xb	0f 05	syscall
0xd	48 83 c0 05	add rax, 5
0x11	5b	pop rbx
0x12	c3	ret

; after
0x0	53	push rbx
0x1	bf 01 00 00 00	mov edi, 1
0x6	ff 24 25 28 00 0f 05	jmp qword ptr [0x50f0028]
0xd	48 83 c0 05	add rax, 5
0x11	5b	pop rbx
0x12	c3	ret

; trampoline of slot 5, tactic A
0x51000a0	b8 27 00 00 00	mov eax, 0x27
0x51000a5	48 8b 0c 25 28 00 14 05	mov rcx, qword ptr [0x5140028]
0x51000ad	ff 24 25 f8 ff 0f 05	jmp qword ptr [0x50ffff8]
