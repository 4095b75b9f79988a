//! History rows, word by word as observed on BuildKit.

use crate::bases::plan;

fn rows(body: &str) -> Vec<(String, bool)> {
    let plan = plan(&format!("FROM scratch\n{body}\n"));
    plan.images[0].history.iter().map(|row| (row.created_by.clone(), row.empty_layer)).collect()
}

const ROWS: &[(&str, &str, bool)] = &[
    ("ARG A=1", "ARG A=1", true),
    ("ARG A B=2", "ARG A B=2", true),
    ("ENV X=1 Y=\"a b\"", "ENV X=1 Y=a b", true),
    ("ENV X  a  b", "ENV X=a  b", true),
    ("LABEL l=\"v w\" k='k=q'", "LABEL l=v w k=k=q", true),
    ("MAINTAINER me", "MAINTAINER me", true),
    ("ADD a /add", "ADD a /add # buildkit", false),
    ("COPY --chmod=755 --chown=1:2 --link a b /c/", "COPY --chown=1:2 --chmod=755 a b /c/ # buildkit", false),
    ("COPY [\"a b\", \"c\", \"/d/\"]", "COPY a b c /d/ # buildkit", false),
    ("COPY <<EOF /x\nbody\nEOF", "COPY <<EOF /x # buildkit", false),
    ("RUN echo a  b", "RUN /bin/sh -c echo a  b # buildkit", false),
    ("RUN --network=none a \\\n  b", "RUN /bin/sh -c a   b # buildkit", false),
    ("RUN [\"echo\", \"hi\"]", "RUN echo hi # buildkit", false),
    ("RUN <<EOF\none\ntwo\nEOF", "RUN /bin/sh -c one\ntwo\n # buildkit", false),
    ("RUN <<EOF\n#!/bin/x\nEOF", "RUN /bin/sh -c /dev/pipes/EOF # buildkit", false),
    ("RUN cat <<EOF\none\nEOF", "RUN /bin/sh -c cat <<EOF\none\nEOF # buildkit", false),
    ("SHELL [\"/bin/sh\", \"-ec\"]", "SHELL [/bin/sh -ec]", true),
    ("WORKDIR /a/c/", "WORKDIR /a/c/", false),
    ("WORKDIR a/../b", "WORKDIR /b", false),
    ("WORKDIR /", "WORKDIR /", true),
    ("USER app", "USER app", true),
    ("EXPOSE 80 90/udp 100-102", "EXPOSE [100/tcp 101/tcp 102/tcp 80/tcp 90/udp]", true),
    ("EXPOSE 127.0.0.1::53/udp 8080:80 80/TCP 5/sctp", "EXPOSE [53/udp 5/sctp 80/tcp 80/tcp]", true),
    ("VOLUME [\"/x y\", \"/z\"]", "VOLUME [/x y /z]", true),
    ("ENTRYPOINT [\"/e\", \"1\"]", "ENTRYPOINT [\"/e\" \"1\"]", true),
    ("CMD c  d", "CMD [\"/bin/sh\" \"-c\" \"c  d\"]", true),
    ("CMD []", "CMD []", true),
    ("CMD", "CMD [\"/bin/sh\" \"-c\" \"\"]", true),
    ("HEALTHCHECK --retries=4 --interval=5s CMD x", "HEALTHCHECK &{[\"CMD-SHELL\" \"x\"] \"5s\" \"0s\" \"0s\" \"0s\" '\\x04'}", true),
    ("HEALTHCHECK NONE", "HEALTHCHECK &{[\"NONE\"] \"0s\" \"0s\" \"0s\" \"0s\" '\\x00'}", true),
    ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGTERM", true),
];

#[test]
fn every_instruction_has_its_row() {
    for (body, row, empty) in ROWS {
        assert_eq!(rows(body), [((*row).to_owned(), *empty)], "{body}");
    }
    assert_eq!(rows("ONBUILD RUN x"), []);
}

#[test]
fn arguments_in_scope_stand_before_a_command() {
    let found = rows("ARG A=1 B=${A}2\nARG C\nRUN x\nENV A=env\nARG B=3\nRUN y");
    assert_eq!(found[2].0, "RUN |3 A=1 B=12 C= /bin/sh -c x # buildkit");
    assert_eq!(found[5].0, "RUN |3 A=env B=3 C= /bin/sh -c y # buildkit");
}
