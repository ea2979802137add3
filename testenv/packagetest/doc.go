// Package packagetest tests what make release writes: the same commit gives the same bytes,
// and a Debian package is installed, started, upgraded beside its running agent, removed and
// purged under a real systemd. The tests call it; it has no product code.
package packagetest
