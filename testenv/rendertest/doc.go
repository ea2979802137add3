// Package rendertest tests what holdfast render and an agent with CONFIG_RENDER write into
// files: beside real agents, for a real nginx, and under kills at random moments. The tests
// call it; it has no product code.
package rendertest
