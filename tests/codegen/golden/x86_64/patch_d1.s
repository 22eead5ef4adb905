; before
0x0	31 ff	xor edi, edi
0x2	b8 0c 00 00 00	mov eax, 0xc
0x7	48 8b 74 24 f8	mov rsi, qword ptr [rsp - 8]
0xc	0f 05	syscall
0xe	c3	ret

; after
0x0	31 ff	xor edi, edi
0x2	b8 0c 00 00 00	mov eax, 0xc
0x7	ff 24 25 28 00 0f 05	jmp qword ptr [0x50f0028]
0xe	c3	ret

; trampoline of slot 5, tactic D1
0x51000a0	48 8b 74 24 f8	mov rsi, qword ptr [rsp - 8]
0x51000a5	48 8b 0c 25 28 00 14 05	mov rcx, qword ptr [0x5140028]
0x51000ad	ff 24 25 f8 ff 0f 05	jmp qword ptr [0x50ffff8]
