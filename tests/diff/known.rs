//! What a peer is known to do otherwise than BuildKit, whom strake follows: such differences are counted, and not made smaller and shown each time again. The
//! reasons stand in the README.

/// A known difference: its name, and whether a line is one.
type Known = (&'static str, fn(&str) -> bool);

/// Those of buildah.
const BUILDAH: [Known; 10] = [
    ("EXPOSE of a range is one port", |line| line.starts_with("config.ExposedPorts: ") && has_range(others(line))),
    ("WORKDIR loses its final slash", |line| line.starts_with("config.WorkingDir: ") && ours(line).replace("/\"", "\"") == others(line)),
    ("FROM scratch gets no PATH", |line| line.starts_with("config.Env: strake [\"PATH=") && others(line) == "null"),
    ("directories made on the way have 0755 whatever --chmod says", |line| {
        made_plain(ours(line)).is_some_and(|plain| plain == others(line) && plain != ours(line))
    }),
    ("symbolic modes are not known", |line| line.starts_with("only the other fails: ") && line.contains("parsing chmod")),
    ("wildcards without a match are errors", |line| line.starts_with("only the other fails: ") && line.contains("copier: stat")),
    ("sources of which all is excluded are errors", |line| line.starts_with("only the other fails: ") && line.contains("no items matching glob")),
    ("a directory takes the place of a file", |line| line.starts_with("only strake fails: ") && line.contains("it is not a directory")),
    ("setuid, setgid and sticky of a context's files are dropped", |line| plain(ours(line)).is_some_and(|plain| plain == others(line) && plain != ours(line))),
    ("security.capability of a context's files is kept", |line| without(others(line), "security.capability") == Some(ours(line))),
];

/// The same of BuildKit in dockerd, whose own store of images is not BuildKit's.
const DOCKERD: [Known; 1] = [("attributes of users are not in the layers that dockerd writes", |line| without(ours(line), "user.note") == Some(others(line)))];

/// The name of a difference that is known of a peer.
pub fn known(peer: &str, line: &str) -> Option<&'static str> {
    let list = match peer {
        "buildah" => &BUILDAH[..],
        peer if peer.starts_with("BuildKit in dockerd") => &DOCKERD[..],
        _ => &[],
    };
    list.iter().find(|(_, is)| is(line)).map(|(name, _)| *name)
}

/// What strake has, of a line that says what both have.
fn ours(line: &str) -> &str {
    line.split_once(": strake ").and_then(|(_, rest)| rest.split_once(", other ")).map_or("", |(ours, _)| ours)
}

fn others(line: &str) -> &str {
    line.split_once(", other ").map_or("", |(_, others)| others)
}

/// `100-102/tcp`.
fn has_range(ports: &str) -> bool {
    ports.split('"').any(|port| port.split_once('-').is_some_and(|(from, _)| from.bytes().all(|byte| byte.is_ascii_digit())))
}

/// `file 4755 0:0 …` without its first three bits.
fn plain(node: &str) -> Option<String> {
    let (mode, rest) = node.strip_prefix("file ")?.split_at_checked(4)?;
    mode.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("file 0{}{rest}", &mode[1..]))
}

/// `dir 0750 0:0` with the mode that a directory has by itself.
fn made_plain(node: &str) -> Option<String> {
    let (_, owner) = node.strip_prefix("dir ")?.split_once(' ')?;
    Some(format!("dir 0755 {owner}"))
}

/// A file without its only attribute, when that is this one.
fn without<'n>(node: &'n str, name: &str) -> Option<&'n str> {
    let (before, attribute) = node.split_once(&format!(" {{\"{name}\": "))?;
    (attribute.ends_with("]}") && !attribute.contains(": ")).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::known;

    #[test]
    fn only_what_is_known_is_taken_for_it() {
        for (line, name) in [
            ("config.ExposedPorts: strake {\"100/tcp\":{},\"53/udp\":{}}, other {\"100-102/tcp\":{},\"53/udp\":{}}", Some("EXPOSE of a range is one port")),
            ("config.ExposedPorts: strake {\"100/tcp\":{}}, other {\"53/udp\":{}}", None),
            ("config.WorkingDir: strake \"/e/\", other \"/e\"", Some("WORKDIR loses its final slash")),
            ("config.WorkingDir: strake \"/e/\", other \"/f\"", None),
            (
                "/b: strake file 4755 0:0 8 bytes \"text\", other file 0755 0:0 8 bytes \"text\"",
                Some("setuid, setgid and sticky of a context's files are dropped"),
            ),
            ("/b: strake file 4755 0:0 8 bytes \"text\", other file 0754 0:0 8 bytes \"text\"", None),
            ("/b: strake dir 0600 0:0, other dir 0755 0:0", Some("directories made on the way have 0755 whatever --chmod says")),
            ("/b: strake dir 0600 0:0, other dir 0700 0:0", None),
            ("/b: strake dir 0600 0:0, other dir 0755 0:1", None),
            (
                "/a: strake file 0644 0:0 6 bytes, other file 0644 0:0 6 bytes {\"security.capability\": [1, 0]}",
                Some("security.capability of a context's files is kept"),
            ),
            ("/a: strake file 0644 0:0 6 bytes, other file 0600 0:0 6 bytes {\"security.capability\": [1, 0]}", None),
            ("only strake fails: error: cannot copy a directory to `/a`: it is not a directory", Some("a directory takes the place of a file")),
            ("only the other fails: Error: building at STEP: parsing chmod \"a=rX\"", Some("symbolic modes are not known")),
            ("only the other fails: Error: exit status 2", None),
        ] {
            assert_eq!(known("buildah", line), name, "{line}");
            assert_eq!(known("BuildKit in dockerd 28", line), None);
        }
        let note = "/d: strake file 0644 0:1 6 bytes \"marked\" {\"user.note\": [107]}, other file 0644 0:1 6 bytes \"marked\"";
        assert!(known("BuildKit in dockerd 28", note).is_some());
        assert_eq!(known("itself", note), None);
    }
}
