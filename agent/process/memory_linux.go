package process

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// releaseProgram unmaps the pages of the program: its code and constants, which the kernel
// maps again from the file, or its cache of it, when they are used. No other mapping may be
// released like this: one that is replaced at that moment would lose what it holds.
func releaseProgram() {
	for _, m := range programMappings() {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.start, m.end-m.start, syscall.MADV_DONTNEED)
	}
}

type mapping struct{ start, end uintptr }

// programMappings lists the mappings of the program that cannot be written to. They stay
// where they are as long as the process runs.
func programMappings() (out []mapping) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 00400000-01a2b000 r-xp 00000000 fe:00 1234   /usr/local/bin/holdfast
		text, path, ok := strings.Cut(lines.Text(), "/")
		fields := strings.Fields(text)
		if !ok || "/"+path != program || len(fields) < 2 || !strings.HasPrefix(fields[1], "r") || strings.Contains(fields[1], "w") || !strings.HasSuffix(fields[1], "p") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && start < end {
			out = append(out, mapping{uintptr(start), uintptr(end)})
		}
	}
	return out
}
