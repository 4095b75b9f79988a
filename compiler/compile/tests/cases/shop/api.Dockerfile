FROM debian:13
COPY api /usr/bin/api
ENTRYPOINT ["/usr/bin/api"]
