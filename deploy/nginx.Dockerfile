# nginx with its modules RTMP and Nchan: the reverse proxy, the event engine and the media server of
# compose.yaml.

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nginx libnginx-mod-rtmp libnginx-mod-nchan \
    && sed --in-place 's/worker_connections 768;/worker_connections 16384;/' /etc/nginx/nginx.conf \
    && rm --recursive /var/lib/apt/lists/* /etc/nginx/sites-enabled/default
EXPOSE 80 443 1935 8080
# On SIGQUIT, nginx completes open requests first.
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
