//! COPY and ADD.

use strake_dockerfile::{self as dockerfile, Heredoc, Source, Text, clean_path, expand_heredoc};
use strake_plan::{Add, Chown, Copy, CopySource, Further, InlineFile, Op};
use strake_source::Span;
use strake_words::GitReference;

use crate::remote::{is_remote, refused_by_copy};
use crate::stage::StageLowering;

impl StageLowering<'_, '_> {
    /// Lowers COPY, or ADD.
    pub(crate) fn copy(&mut self, copy: &dockerfile::Copy, add: bool) -> Option<()> {
        let written = self.expand(&copy.dest)?;
        let parts = self.parts(copy, add)?;
        let chown = self.flag(copy.chown.as_ref())?;
        let chmod = self.chmod(copy.chmod.as_ref())?;
        self.check_add(copy, &parts)?;
        let dest = destination(self.state.workdir(), &written);
        if parts.count > 1 && !dest.ends_with('/') {
            let message = "several sources and a destination without a final `/`: unless it is a directory, they all become one file and the last wins";
            self.warn("CopySeveralToOne", message, copy.dest.span, "end the destination with `/`");
        }
        let row = history_row(if add { "ADD" } else { "COPY" }, copy.parents, chown.as_deref(), chmod.as_deref(), &parts.shown, &written);
        let mut groups = parts.groups.into_iter();
        let none = || Further { from: CopySource::Inline, sources: Vec::new(), unpack: copy.unpack.unwrap_or(true), tree: false };
        let first = groups.next().unwrap_or_else(none);
        let op = Copy {
            parent: self.state.step,
            from: first.from,
            sources: first.sources,
            inline: parts.inline,
            dest,
            chown: chown.map(Chown),
            chmod,
            exclude: copy.exclude.iter().map(|pattern| pattern.value.clone()).collect(),
            parents: copy.parents,
            link: copy.link,
            add: add.then_some(Add { unpack: first.unpack, tree: first.tree }),
            also: groups.collect(),
        };
        self.push(Op::Copy(op), true);
        self.record(row, false);
        Some(())
    }

    /// The sources in groups of one place each: what is fetched, and what is here.
    fn parts(&mut self, copy: &dockerfile::Copy, add: bool) -> Option<Parts> {
        let mut parts = Parts { count: copy.sources.len(), ..Parts::default() };
        let (mut here, mut complete) = (None, true);
        for source in &copy.sources {
            let path = match source {
                Source::Path(path) => path,
                Source::Heredoc(heredoc) => {
                    parts.inline.push(InlineFile { name: heredoc.name.clone(), content: self.heredoc(heredoc)? });
                    parts.shown.push(format!("<<{}", heredoc.name));
                    continue;
                }
            };
            let expanded = self.expand(path)?;
            let is_fetched = add && is_remote(&expanded);
            let tree = is_fetched && GitReference::looks_like(&expanded);
            let (from, source, unpack) = if is_fetched {
                parts.remote = true;
                // The others are asked for even so: all are fetched at once.
                let Some((from, source)) = self.remote(copy, &expanded, path.span) else {
                    complete = false;
                    continue;
                };
                (from, source, copy.unpack.unwrap_or(false))
            } else {
                if let Some(refused) = refused_by_copy(&expanded) {
                    self.error("copy-source", refused, path.span);
                    return None;
                }
                let source = source_path(&expanded, copy.parents);
                if copy.from.is_none() {
                    self.check_ignored(&source, path.span);
                }
                let from = match &here {
                    Some(from) => CopySource::clone(from),
                    None => here.insert(self.copy_source(copy)?).clone(),
                };
                (from, source, copy.unpack.unwrap_or(true))
            };
            parts.shown.push(expanded);
            match parts.groups.last_mut().filter(|last| (&last.from, last.unpack) == (&from, unpack)) {
                Some(last) => last.sources.push(source),
                None => parts.groups.push(Further { from, sources: vec![source], unpack, tree }),
            }
        }
        complete.then_some(parts)
    }

    /// An optional flag, expanded; empty is not given.
    fn flag(&mut self, flag: Option<&Text>) -> Option<Option<String>> {
        match flag {
            None => Some(None),
            Some(text) => Some(Some(self.expand(text)?).filter(|value| !value.is_empty())),
        }
    }

    fn chmod(&mut self, flag: Option<&Text>) -> Option<Option<String>> {
        let mode = self.flag(flag)?;
        if let (Some(mode), Some(text)) = (&mode, flag)
            && !is_mode(mode)
        {
            let message = format!("invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777, or like u=rwX,go=rX");
            self.error("chmod", message, text.span);
            return None;
        }
        Some(mode)
    }

    /// A source that the ignore file leaves out will not be found. With `!` lines nothing is said, as something below it may be kept.
    fn check_ignored(&mut self, source: &str, span: Span) {
        let (ignore, lines) = (&self.lowering.ignore, &self.lowering.request.context.ignore);
        if ignore.excluded(source) && !lines.iter().any(|line| line.starts_with('!')) {
            let message = format!("`{source}` is left out by the ignore file: it will not be found");
            self.warn("CopyIgnoredFile", message, span, "remove it here, or its line there");
        }
    }

    /// Flags that only something of elsewhere can have.
    fn check_add(&mut self, copy: &dockerfile::Copy, parts: &Parts) -> Option<()> {
        let wrong = match (&copy.checksum, copy.keep_git_dir) {
            _ if parts.remote => None,
            (Some(checksum), _) => Some((checksum.span, "checksum requires HTTP(S) or Git sources")),
            (None, Some(true)) => Some((copy.dest.span, "keep-git-dir requires a Git source")),
            _ => None,
        };
        let Some((span, message)) = wrong else { return Some(()) };
        self.error("flag-value", message, span);
        None
    }

    fn heredoc(&mut self, heredoc: &Heredoc) -> Option<String> {
        if !heredoc.expand {
            return Some(heredoc.content.clone());
        }
        let lookup = |name: &str| self.state.environment.get(name).map(str::to_owned);
        match expand_heredoc(&heredoc.content, &lookup) {
            Ok(expanded) => {
                self.warn_unmatched(&expanded.unmatched, heredoc.span);
                Some(expanded.text)
            }
            Err(error) => self.cannot_expand(&error, heredoc.body),
        }
    }

    fn copy_source(&mut self, copy: &dockerfile::Copy) -> Option<CopySource> {
        match &copy.from {
            None => Some(self.main_context()),
            Some(from) if from.value.is_empty() || from.value.contains('$') => {
                self.error("flag-value", "--from must name a stage, a context or an image", from.span);
                None
            }
            Some(from) => self.source_of(&from.value, from.span),
        }
    }
}

/// The sources of one COPY or ADD.
#[derive(Default)]
struct Parts {
    /// Neighbours of one place together.
    groups: Vec<Further>,
    inline: Vec<InlineFile>,
    /// All of them as the history shows them.
    shown: Vec<String>,
    count: usize,
    /// One of them is fetched.
    remote: bool,
}

/// A source relative to its root, cleaned as if rooted there; `.` is the root. With --parents a `/./` keeps its meaning.
fn source_path(source: &str, parents: bool) -> String {
    let clean = |path: &str| {
        let cleaned = clean_path(&format!("/{path}"));
        if cleaned == "/" { ".".to_owned() } else { cleaned[1..].to_owned() }
    };
    match source.split_once("/./").filter(|_| parents) {
        Some((pivot, rest)) => format!("{}/./{}", clean(pivot), clean(rest)),
        None => clean(source),
    }
}

/// An absolute destination; a final `/` stays, and `.` means "into the working directory".
fn destination(workdir: &str, written: &str) -> String {
    let joined = if written.starts_with('/') { written.to_owned() } else { format!("{workdir}/{written}") };
    let cleaned = clean_path(&format!("/{joined}"));
    let into = written.is_empty() || written == "." || written.ends_with('/');
    if into && cleaned != "/" { format!("{cleaned}/") } else { cleaned }
}

fn history_row(name: &str, parents: bool, chown: Option<&str>, chmod: Option<&str>, sources: &[String], dest: &str) -> String {
    let mut row = name.to_owned();
    if parents {
        row.push_str(" --parents");
    }
    for (flag, value) in [("chown", chown), ("chmod", chmod)] {
        if let Some(value) = value {
            row.push_str(&format!(" --{flag}={value}"));
        }
    }
    format!("{row} {} {dest} # buildkit", sources.join(" "))
}

/// Octal up to 07777, or clauses like `u=rwX,go-w`.
fn is_mode(mode: &str) -> bool {
    if mode.bytes().all(|byte| byte.is_ascii_digit()) {
        return u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o7777);
    }
    mode.split(',').all(|clause| {
        let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let operations: Vec<&str> = rest.split(['+', '-', '=']).collect();
        operations.len() > 1
            && operations[0].is_empty()
            && operations[1..].iter().all(|permissions| permissions.chars().all(|c| "rwxXst".contains(c)) || matches!(*permissions, "u" | "g" | "o"))
    })
}

#[cfg(test)]
mod tests {
    use super::{destination, is_mode, source_path};

    #[test]
    fn sources_are_clamped_to_their_root() {
        for (source, expected) in [(".", "."), ("/", "."), ("./a/", "a"), ("../../a", "a"), ("/a//b/../c", "a/c"), ("*.txt", "*.txt"), ("", ".")] {
            assert_eq!(source_path(source, false), expected, "{source}");
        }
        assert_eq!(source_path("x/./y/z", true), "x/./y/z");
        assert_eq!(source_path("x/./y/z", false), "x/y/z");
    }

    #[test]
    fn destinations_are_absolute() {
        let cases = [("/x", "/x"), ("/x/", "/x/"), (".", "/w/"), ("", "/w/"), ("a", "/w/a"), ("./", "/w/"), ("../b/", "/b/"), ("/", "/"), ("/../a", "/a")];
        for (written, expected) in cases {
            assert_eq!(destination("/w", written), expected, "{written}");
        }
        assert_eq!(destination("/", "."), "/");
    }

    #[test]
    fn modes() {
        for mode in ["755", "0", "07777", "u+s", "a=rwX", "go-rwx", "u=rwX,go=rX", "+x", "u="] {
            assert!(is_mode(mode), "{mode}");
        }
        for mode in ["x", "10000", "888", "z+x", "u", "u+q", ""] {
            assert!(!is_mode(mode) || mode.is_empty(), "{mode}");
        }
    }
}
