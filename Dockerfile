# The binary is static and has all it needs in it, so the image is the binary.
# It is built on the host, where the Go toolchain and the module cache are:
#
#   make image                      # make build, then docker build -t holdfast .
#   docker run --network host -v holdfast-data:/data holdfast
#
# Services reach an agent on loopback only, so it shares the network of the
# service beside it: --network host, or --network container:NAME.
#
# The agent runs as user 65532, not as root. bin/image, which make image makes, has the
# empty directories that volumes are mounted at: a new volume takes their owner. A
# directory of the host that is mounted there has to be writable for that user:
# chown 65532:65532 DIR.
FROM scratch
COPY bin/holdfast /holdfast
COPY --chown=65532:65532 bin/image/ /
ENV CONFIG_DATA_DIR=/data PATH=/
USER 65532:65532
VOLUME /data
ENTRYPOINT ["/holdfast"]
CMD ["agent"]
