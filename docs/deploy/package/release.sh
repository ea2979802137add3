#!/bin/bash
# release.sh DIR: what a release has, into DIR: static binaries, packages, their checksums,
# and a list of what is in them (CycloneDX). The same commit gives the same bytes.
#   PLATFORMS  what to build, such as "linux/amd64 darwin/arm64"
#   VERSION    default: git describe
set -euo pipefail
umask 022
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
dist=$(realpath -m "${1:?usage: release.sh DIR}")
platforms=${PLATFORMS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64}
version=${VERSION:-$(git describe --tags --always --dirty)}
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
sbom=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
MTIME=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
PACKAGE_VERSION=${version#v}
case $PACKAGE_VERSION in
[0-9]*.[0-9]*.[0-9]*) ;;
*) PACKAGE_VERSION=0.0.0-$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$PACKAGE_VERSION ;; # no tag: newer commits are newer
esac
export PACKAGE_VERSION

rm -rf "$dist" && mkdir -p "$dist"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { # OS ARCH FILE
  CGO_ENABLED=0 GOOS=$1 GOARCH=$2 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$version" -o "$3" ./cmd/holdfast
}
for p in $platforms; do
  build "${p%/*}" "${p#*/}" "$dist/holdfast_${version}_${p%/*}_${p#*/}"
done

# Man pages and completions, the same for every platform.
host=$dist/holdfast_${version}_$(go env GOHOSTOS)_$(go env GOHOSTARCH)
if [ -e "$host" ]; then
  cp "$host" "$work/holdfast"
else
  build "$(go env GOHOSTOS)" "$(go env GOHOSTARCH)" "$work/holdfast"
fi
"$work/holdfast" man "$work/man"
gzip -n9 "$work"/man/*.1
for shell in bash zsh fish; do "$work/holdfast" completion $shell >"$work/completion.$shell"; done

go_host() { env -u GOOS -u GOARCH GOFLAGS=-mod=mod GOBIN="$work/bin" go install "$1"; }
go_host $nfpm
go_host $sbom
for p in $platforms; do
  os=${p%/*} arch=${p#*/} file=$dist/holdfast_${version}_${p%/*}_${p#*/}
  "$work/bin/cyclonedx-gomod" bin -json -licenses -noserial -version "$version" -output "$file.cdx.json" "$file" 2>/dev/null
  sed -i "s/^    \"timestamp\": .*/    \"timestamp\": \"$MTIME\",/" "$file.cdx.json"
  if [ "$os" = linux ]; then
    for packager in deb rpm; do
      BINARY=$file EXTRAS=$work ARCH=$arch "$work/bin/nfpm" package -f docs/deploy/package/nfpm.yaml -p $packager -t "$dist/"
    done
  fi
done
(cd "$dist" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
ls -l "$dist"
