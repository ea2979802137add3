package process

import "runtime/debug"

// ReleaseMemory returns to the system what this process has and does not use now: garbage,
// and the pages of the program that only its start has needed.
func ReleaseMemory() {
	debug.FreeOSMemory()
	releaseProgram()
}
