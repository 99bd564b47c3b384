# SPDX-License-Identifier: Apache-2.0
# Ebb in a container: the daemon, the command line, and the root images of the runtimes that come with it.
#
#   docker build -t ebb .
#   docker run --rm --name ebb --network host --privileged --cgroupns private ebb
#   docker exec ebb fn doctor
#
# docs/containers.md tells which privileges are needed where, and why the network is the host's.
ARG BUILD_IMAGE=swift:6.3-bookworm
ARG BASE_IMAGE=debian:bookworm-slim
# `prebuilt` takes the programs that `make release` has left in .build-release/bin. The default is below: buildah up to
# 1.28 at least takes one from here for an image.
ARG PROGRAMS

FROM ${BUILD_IMAGE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        build-essential pkg-config libseccomp-dev libcap-dev libarchive-dev libsqlite3-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Package.swift ./
COPY Sources Sources
COPY Tests Tests
COPY scripts scripts
RUN scripts/build release && mkdir /programs && cp .build-release/bin/* /programs/

FROM scratch AS prebuilt
COPY .build-release/bin /programs

FROM ${PROGRAMS:-build} AS programs

FROM ${BASE_IMAGE} AS python
COPY Runtimes/images/python.packages scripts/finish-image /
RUN apt-get update \
    && sed 's/#.*//' /python.packages | xargs apt-get install -y --no-install-recommends \
    && /finish-image / \
    && rm /python.packages /finish-image

FROM ${BASE_IMAGE} AS node
COPY Runtimes/images/node.packages scripts/finish-image /
RUN apt-get update \
    && sed 's/#.*//' /node.packages | xargs apt-get install -y --no-install-recommends \
    && /finish-image / \
    && rm /node.packages /finish-image

FROM ${BASE_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates libarchive13 libcap2 libseccomp2 libsqlite3-0 libstdc++6 nftables \
    && rm -rf /var/lib/apt/lists/*
COPY --from=python / /usr/lib/fn/images/python
COPY --from=node / /usr/lib/fn/images/node
COPY Runtimes /usr/share/fn/runtimes
COPY --from=programs /programs/fn /programs/fnd /usr/bin/
COPY --from=programs /programs/fn-init /programs/fn-bridge /usr/lib/fn/
ENV FN_STORAGE_IMAGES=/usr/lib/fn/images
VOLUME /var/lib/fn
EXPOSE 9000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s CMD ["/usr/bin/fn", "ls"]
ENTRYPOINT ["/usr/bin/fnd"]
