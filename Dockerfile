# The runtime's image, for who has a container engine:
#
#     docker build -t cloisterd .
#     docker build -t cloister-shim --target cloister-shim .
#
# The programs in it are, byte for byte, those of `make image`. The published
# images and the index of their digests are made by `make image`, as an engine
# writes its own clock into an image.
ARG GO=golang:1.26.8
FROM ${GO} AS build
WORKDIR /src
COPY . .
RUN make image-root

FROM scratch AS cloister-shim
COPY --from=build /src/bin/image/root/cloister-shim /cloister-shim
USER 65534:65534
ENTRYPOINT ["/cloister-shim"]

FROM scratch AS cloisterd
COPY --from=build /src/bin/image/root/cloisterd /src/bin/image/root/cloister-rego /
USER 0:0
ENTRYPOINT ["/cloisterd"]
