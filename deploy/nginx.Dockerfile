# nginx with its RTMP module, for compose.yaml: the site, and the media server.

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nginx libnginx-mod-rtmp \
    && rm --recursive /var/lib/apt/lists/* /etc/nginx/sites-enabled/default
EXPOSE 80 443 1935 8080
# Requests in flight are answered first.
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
