# The binary is static and has all it needs in it, so the image is the binary.
# It is built on the host, where the Go toolchain and the module cache are:
#
#   make image                      # make build, then docker build -t holdfast .
#   docker run --network host -v holdfast-data:/data holdfast
#
# Services reach an agent on loopback only, so it shares the network of the
# service beside it: --network host, or --network container:NAME.
FROM scratch
COPY bin/holdfast /holdfast
ENV CONFIG_DATA_DIR=/data PATH=/
VOLUME /data
ENTRYPOINT ["/holdfast"]
CMD ["agent"]
