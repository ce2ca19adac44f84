# A node of Whimbrel.
#
#   docker build -t whimbrel-node .                                        over a store of its own
#   docker build -t whimbrel-node-foundationdb --target foundationdb \
#     --build-arg FOUNDATIONDB=7.3.63 --build-arg FOUNDATIONDB_SHA256=...  over FoundationDB, too
#
# With Docker before 23 set DOCKER_BUILDKIT=1: its old builder goes through the stages of FoundationDB for either image.
#
# Its config is /etc/whimbrel/node.toml, with certificates and keys beside it, readable for uid or gid 7100; its `data_dir`
# is /var/lib/whimbrel. In a container `listen.http` is an address that others reach, such as 0.0.0.0:7100, and so is
# `listen.admin`, where the node says whether it is ready: publish that to operators only.

FROM rust:1.95-slim-bookworm AS source
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .

FROM source AS build
RUN cargo build --release --locked -p whimbrel-node -p whimbrel-client

# FoundationDB's client, from its official package. Its protocol must be that of the cluster.
FROM debian:bookworm-slim AS client
ARG FOUNDATIONDB=7.3.63
# What `sha256sum` says of the package that you have checked.
ARG FOUNDATIONDB_SHA256
ADD https://github.com/apple/foundationdb/releases/download/${FOUNDATIONDB}/foundationdb-clients_${FOUNDATIONDB}-1_amd64.deb /clients.deb
RUN echo "${FOUNDATIONDB_SHA256:?give --build-arg FOUNDATIONDB_SHA256=...}  /clients.deb" | sha256sum --check --quiet \
  && dpkg --install /clients.deb

FROM source AS build-foundationdb
RUN apt-get update && apt-get install -y --no-install-recommends libclang-dev && rm -rf /var/lib/apt/lists/*
COPY --from=client /usr/lib/libfdb_c.so /usr/lib/
RUN cargo build --release --locked -p whimbrel-node -p whimbrel-client --features whimbrel-node/foundationdb

FROM debian:bookworm-slim AS runtime
# Authorities that the CLI trusts for https.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 7100 --user-group --no-create-home --home-dir /var/lib/whimbrel whimbrel \
  && install -d -o whimbrel -g whimbrel -m 0700 /var/lib/whimbrel
USER 7100
VOLUME /var/lib/whimbrel
# Clients; operators, never the public; other regions.
EXPOSE 7100 7101 7400/udp
ENTRYPOINT ["whimbrel-node"]
CMD ["serve", "--config", "/etc/whimbrel/node.toml"]

FROM runtime AS foundationdb
COPY --from=client /usr/lib/libfdb_c.so /usr/lib/
COPY --from=build-foundationdb /src/target/release/whimbrel-node /src/target/release/whimbrel /usr/local/bin/

FROM runtime
COPY --from=build /src/target/release/whimbrel-node /src/target/release/whimbrel /usr/local/bin/
