//! Flags of instructions: which there are, and reading them.

use strake_source::{Diagnostic, Span, nearest};

use crate::ast::{Mount, Text};
use crate::grammar;
use crate::lines::Logical;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Bare, or `=true`, `=false`.
    Bool,
    /// `=value`, once.
    Value,
    /// `=value`, any number of times.
    List,
}

const FILES: [(&str, Kind); 4] = [("chown", Kind::Value), ("chmod", Kind::Value), ("link", Kind::Bool), ("exclude", Kind::List)];
const COPY: [(&str, Kind); 2] = [("from", Kind::Value), ("parents", Kind::Bool)];
const ADD: [(&str, Kind); 3] = [("keep-git-dir", Kind::Bool), ("checksum", Kind::Value), ("unpack", Kind::Bool)];
const RUN: [(&str, Kind); 4] = [("mount", Kind::List), ("network", Kind::Value), ("security", Kind::Value), ("device", Kind::List)];
const HEALTHCHECK: [(&str, Kind); 5] =
    [("interval", Kind::Value), ("timeout", Kind::Value), ("start-period", Kind::Value), ("start-interval", Kind::Value), ("retries", Kind::Value)];
const FROM: [(&str, Kind); 1] = [("platform", Kind::Value)];

fn known(keyword: &str) -> Vec<(&'static str, Kind)> {
    match keyword {
        "FROM" => FROM.to_vec(),
        "RUN" => RUN.to_vec(),
        "HEALTHCHECK" => HEALTHCHECK.to_vec(),
        "COPY" => [&FILES[..], &COPY[..]].concat(),
        "ADD" => [&FILES[..], &ADD[..]].concat(),
        _ => Vec::new(),
    }
}

/// The flags of one instruction, checked against what its keyword takes.
#[derive(Default)]
pub(crate) struct Flags {
    found: Vec<(&'static str, Text)>,
}

impl Flags {
    pub(crate) fn read(keyword: &str, logical: &Logical, ranges: &[std::ops::Range<usize>], diagnostics: &mut Vec<Diagnostic>) -> Self {
        let known = known(keyword);
        let mut flags = Flags::default();
        for range in ranges {
            let span = logical.span(range.start, range.end);
            let plain = grammar::unquoted_flag(&logical.text[range.clone()]);
            let (name, value) = plain[2..].split_once('=').map_or((&plain[2..], None), |(name, value)| (name, Some(value)));
            match flags.check(&known, keyword, name, value) {
                Ok((name, value)) => flags.found.push((name, Text::new(value, span))),
                Err((message, help)) => {
                    let mut finding = Diagnostic::error("unknown-flag", message).at(span);
                    finding.help.extend(help);
                    diagnostics.push(finding);
                }
            }
        }
        flags
    }

    fn check(
        &self,
        known: &[(&'static str, Kind)],
        keyword: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<(&'static str, String), (String, Option<String>)> {
        let Some((name, kind)) = known.iter().copied().find(|(flag, _)| *flag == name) else {
            let near = nearest(name, known.iter().map(|(flag, _)| *flag)).map(|flag| format!("did you mean `--{flag}`?"));
            let all: Vec<String> = known.iter().map(|(flag, _)| format!("--{flag}")).collect();
            let takes = if all.is_empty() { format!("{keyword} takes no flags") } else { format!("{keyword} takes {}", all.join(", ")) };
            return Err((format!("unknown flag: --{name}"), Some(near.unwrap_or(takes))));
        };
        if kind != Kind::List && self.found.iter().any(|(flag, _)| *flag == name) {
            return Err((format!("duplicate flag specified: --{name}"), None));
        }
        match (kind, value) {
            (Kind::Bool, None) => Ok((name, "true".to_owned())),
            (Kind::Bool, Some(value)) if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => Ok((name, value.to_lowercase())),
            (Kind::Bool, Some(value)) => Err((format!("expecting boolean value for flag --{name}, not `{value}`"), None)),
            (_, Some(value)) => Ok((name, value.to_owned())),
            (_, None) => Err((format!("missing a value on flag: --{name}"), Some(format!("write --{name}=VALUE")))),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<Text> {
        self.found.iter().find(|(flag, _)| *flag == name).map(|(_, value)| value.clone())
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<Text> {
        self.found.iter().filter(|(flag, _)| *flag == name).map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value.value == "true")
    }
}

const MOUNT_KEYS: [&str; 14] = ["type", "from", "source", "target", "readonly", "readwrite", "id", "sharing", "required", "size", "mode", "uid", "gid", "env"];
const MOUNT_TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// Reads one --mount flag. Values stay unexpanded.
pub(crate) fn mount(flag: &Text, diagnostics: &mut Vec<Diagnostic>) -> Mount {
    let mut mount = Mount { span: flag.span, options: Vec::new() };
    for field in comma_separated(&flag.value) {
        match option(&field) {
            Ok(option) => mount.options.push(option),
            Err(message) => diagnostics.push(Diagnostic::error("mount-option", message).at(flag.span)),
        }
    }
    mount.check(flag.span, diagnostics);
    mount
}

fn option(field: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = field.split_once('=').map_or((field, None), |(name, value)| (name, Some(value.to_owned())));
    let lower = name.to_lowercase();
    let key = match lower.as_str() {
        "dst" | "destination" => "target",
        "src" => "source",
        "ro" => "readonly",
        "rw" => "readwrite",
        other => other,
    };
    if !MOUNT_KEYS.contains(&key) {
        let near = nearest(key, MOUNT_KEYS).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        return Err(format!("unexpected key `{name}` in `{field}`{near}"));
    }
    if value.is_none() && !matches!(key, "readonly" | "readwrite" | "required") {
        return Err(format!("invalid field `{field}` must be a key=value pair"));
    }
    Ok((key.to_owned(), value))
}

impl Mount {
    /// What can be said before variables are expanded.
    fn check(&self, span: Span, diagnostics: &mut Vec<Diagnostic>) {
        let kind = self.option("type").unwrap_or("bind").to_lowercase();
        let mut wrong = |message: String| diagnostics.push(Diagnostic::error("mount-option", message).at(span));
        if kind.contains('$') {
            return;
        }
        if !MOUNT_TYPES.contains(&kind.as_str()) {
            let near = nearest(&kind, MOUNT_TYPES).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            wrong(format!("unsupported mount type `{kind}`{near}"));
            return;
        }
        let only: [(&str, &[&str]); 8] = [
            ("size", &["tmpfs"]),
            ("sharing", &["cache"]),
            ("env", &["secret"]),
            ("required", &["secret", "ssh"]),
            ("mode", &["cache", "secret", "ssh"]),
            ("uid", &["cache", "secret", "ssh"]),
            ("gid", &["cache", "secret", "ssh"]),
            ("from", &["bind", "cache"]),
        ];
        for (key, kinds) in only {
            if self.option(key).is_some() && !kinds.contains(&kind.as_str()) {
                wrong(format!("`{key}` is not allowed for a mount of type `{kind}`"));
            }
        }
        if self.option("target").is_none_or(str::is_empty) && matches!(kind.as_str(), "bind" | "cache" | "tmpfs") {
            wrong(format!("a mount of type `{kind}` needs a target"));
        }
        if self.option("from").is_some_and(|from| from.contains('$')) {
            wrong("`from` of a mount cannot have variables: name the stage or image".to_owned());
        }
    }
}

/// Fields between commas; a field in double quotes may have commas, a doubled quote in it is one.
fn comma_separated(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(character) = chars.next() {
        let field = fields.last_mut();
        match (character, field) {
            (',', _) if !quoted => fields.push(String::new()),
            ('"', Some(field)) if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            ('"', Some(field)) if quoted || field.is_empty() => quoted = !quoted,
            (other, Some(field)) => field.push(other),
            (_, None) => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::comma_separated;

    #[test]
    fn commas_in_quotes_do_not_part() {
        assert_eq!(comma_separated("a=b,c"), ["a=b", "c"]);
        assert_eq!(comma_separated("\"a=b,c\"\"d\",e"), ["a=b,c\"d", "e"]);
    }
}
