//! What not every builder knows: found out by a small case of each, and left out of the cases of whoever does not.

use std::collections::BTreeMap;
use std::path::Path;

use crate::builders::Builder;
use crate::case::{Case, Line, Thing};

/// Something of the language that is younger than some builders, or that a builder never had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// `--link`.
    Link,
    /// `--parents`.
    Parents,
    /// `--exclude`.
    Exclude,
    /// `RUN --mount`.
    Mount,
    /// A heredoc as a script.
    RunHeredoc,
    /// A heredoc as a file.
    CopyHeredoc,
    /// ADD of a URL.
    Url,
    /// `ADD --checksum`.
    Checksum,
    /// ADD of a git repository.
    Git,
}

/// Features that are left out, each with why.
pub type Features = BTreeMap<Feature, String>;

const PROBES: [(Feature, &str); 9] = [
    (Feature::Link, "COPY --link f /x"),
    (Feature::Parents, "COPY --parents f /x/"),
    (Feature::Exclude, "COPY --exclude=g* . /x/"),
    (Feature::Mount, "RUN --mount=type=tmpfs,target=/m --mount=type=cache,target=/c --mount=type=bind,target=/b --mount=type=secret,id=s true"),
    (Feature::RunHeredoc, "RUN <<EOF\ntest -d /tmp\nEOF"),
    (Feature::CopyHeredoc, "COPY <<EOF /x\ntext\nEOF"),
    (Feature::Url, "ADD http://127.0.0.1:8000/plain.txt /x"),
    (Feature::Checksum, "ADD --checksum=PLAIN-DIGEST http://127.0.0.1:8000/plain.txt /x"),
    (Feature::Git, "ADD git://127.0.0.1/app.git#main /x"),
];

/// What a builder does not know. `context` is made anew.
pub fn unknown_to(builder: &mut dyn Builder, context: &Path) -> Features {
    let mut found = Features::new();
    for (feature, line) in PROBES {
        let file = |text: &str| Thing::File { text: text.to_owned(), mode: 0o644 };
        let lines = ["FROM base:1", line].map(|line| Line::Plain(line.replace("PLAIN-DIGEST", crate::served::PLAIN_DIGEST)));
        let case =
            Case { seed: 0, things: vec![("f".to_owned(), file("f")), ("g".to_owned(), file("g"))], ignore: Vec::new(), lines: lines.into(), args: Vec::new() };
        let _ = std::fs::remove_dir_all(context);
        case.write(context);
        if let Err(why) = builder.build(&case, context) {
            found.insert(feature, why.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned());
        }
    }
    found
}
