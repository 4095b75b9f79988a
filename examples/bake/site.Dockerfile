FROM base AS site
ARG LANGUAGE
ARG GREETING=
COPY --from=page . /www/
RUN if [ -n "$GREETING" ]; then sed -i "s/<h1>.*<\/h1>/<h1>$GREETING<\/h1>/" /www/index.html; fi
LABEL language=$LANGUAGE
USER www
CMD ["sh", "-c", "exec httpd -f -p $PORT -h /www"]

FROM site AS check
ARG LANGUAGE
RUN grep -q "lang=\"$LANGUAGE\"" /www/index.html
