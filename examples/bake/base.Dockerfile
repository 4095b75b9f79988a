FROM busybox:1
RUN mkdir -p /www && echo 'www:x:1000:1000::/www:/bin/sh' >> /etc/passwd
ENV PORT=8080
