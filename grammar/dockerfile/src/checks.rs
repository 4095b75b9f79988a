//! Build checks: what works but is likely not meant, by the names that BuildKit gave them; and the `# check=` directive.

use strake_source::{Diagnostic, Severity, Span};

use crate::ast::{Command, CommandLine, File, From, Instruction, Text};

type Check = fn(&File, &mut Vec<Diagnostic>);

/// All checks of the tree alone. Those that need values or the context are made where these are known.
const CHECKS: [Check; 9] = [casing, stage_names, platforms, shell_forms, once_a_stage, deprecated, secrets, legacy_pairs, descriptions];

/// Checks that are made only when `# check=experimental=` names them, or says `all`.
const EXPERIMENTAL: [&str; 1] = ["InvalidDefinitionDescription"];

/// Runs the checks.
pub(crate) fn run(file: &File, diagnostics: &mut Vec<Diagnostic>) {
    for check in CHECKS {
        check(file, diagnostics);
    }
}

impl File {
    /// What the file's `# check=` directive, or the comment above an instruction, makes of a warning: nothing when it is skipped, an error with `error=true`.
    pub fn judge(&self, mut finding: Diagnostic) -> Option<Diagnostic> {
        if finding.severity != Severity::Warning {
            return Some(finding);
        }
        let code = finding.code.0;
        let directive = self.directives.check.as_ref().map(|check| check.value.as_str()).unwrap_or_default();
        if EXPERIMENTAL.contains(&code) && !names(directive, "experimental", code) {
            return None;
        }
        if skips(directive, code) || self.comments_at(finding.span).any(|comment| skips(comment, code)) {
            return None;
        }
        if option(directive, "error").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            finding.severity = Severity::Error;
        }
        Some(finding)
    }

    /// The `check=` values of comments above the instruction in which a span lies.
    fn comments_at(&self, span: Option<Span>) -> impl Iterator<Item = &str> {
        let instruction =
            span.and_then(|span| self.instructions.iter().find(|instruction| instruction.span.start <= span.start && span.start <= instruction.span.end));
        let comments = instruction.into_iter().flat_map(|instruction| &instruction.comments);
        comments.filter_map(|comment| comment.value.strip_prefix("check")?.trim_start().strip_prefix('='))
    }
}

/// The value of `name=` among options that `;` parts.
fn option<'o>(options: &'o str, name: &str) -> Option<&'o str> {
    let pairs = options.split(';').filter_map(|option| option.split_once('='));
    pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn skips(options: &str, code: &str) -> bool {
    names(options, "skip", code)
}

/// Whether an option names a check, or all.
fn names(options: &str, name: &str, code: &str) -> bool {
    let named = option(options, name).unwrap_or_default();
    named.split(',').map(str::trim).any(|rule| rule.eq_ignore_ascii_case("all") || rule.eq_ignore_ascii_case(code))
}

fn warn(diagnostics: &mut Vec<Diagnostic>, code: &'static str, span: Span, message: impl Into<String>, help: impl Into<String>) {
    diagnostics.push(Diagnostic::warning(code, message).at(span).help(help));
}

fn is_upper(word: &str) -> bool {
    !word.contains(|c: char| c.is_lowercase())
}

fn is_lower(word: &str) -> bool {
    !word.contains(|c: char| c.is_uppercase())
}

fn froms(file: &File) -> impl Iterator<Item = (&Instruction, &From)> {
    file.instructions.iter().filter_map(|instruction| if let Command::From(from) = &instruction.command { Some((instruction, from)) } else { None })
}

/// ConsistentInstructionCasing and FromAsCasing.
fn casing(file: &File, diagnostics: &mut Vec<Diagnostic>) {
    let keywords = || file.instructions.iter().filter(|instruction| instruction.command != Command::Invalid).map(|instruction| &instruction.keyword);
    let (upper, all) = (keywords().filter(|keyword| is_upper(&keyword.value)).count(), keywords().count());
    let most_upper = upper * 2 >= all;
    let expected = if most_upper { "capitals" } else { "lower case" };
    for keyword in keywords() {
        if !(if most_upper { is_upper(&keyword.value) } else { is_lower(&keyword.value) }) {
            let message = format!("`{}` is not written in {expected} as most keywords of this file are", keyword.value);
            warn(diagnostics, "ConsistentInstructionCasing", keyword.span, message, format!("write it in {expected}"));
        }
    }
    for (instruction, from) in froms(file) {
        let Some(word) = &from.as_keyword else { continue };
        let keyword = &instruction.keyword.value;
        if (is_upper(keyword) && !is_upper(&word.value)) || (is_lower(keyword) && !is_lower(&word.value)) {
            let message = format!("`{}` and `{keyword}` differ in case", word.value);
            warn(diagnostics, "FromAsCasing", word.span, message, "write both in capitals, or both in lower case");
        }
    }
}

/// StageNameCasing, ReservedStageName and DuplicateStageName.
fn stage_names(file: &File, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen: Vec<&Text> = Vec::new();
    for (instruction, from) in froms(file) {
        let Some(name) = &from.name else { continue };
        // The tree's name is in lower case; the text's last word is as written.
        if let Some(written) = instruction.text.split_whitespace().next_back().filter(|written| *written != name.value) {
            warn(diagnostics, "StageNameCasing", name.span, format!("stage name `{written}` has capitals"), format!("write `{}`", name.value));
        }
        if matches!(name.value.as_str(), "scratch" | "context") {
            warn(diagnostics, "ReservedStageName", name.span, format!("`{}` is reserved and cannot name a stage", name.value), "choose another name");
        }
        match seen.iter().find(|known| known.value == name.value) {
            Some(first) => {
                let finding = Diagnostic::warning("DuplicateStageName", format!("two stages are named `{}`: the later one is meant from here on", name.value));
                diagnostics.push(finding.at(name.span).related(first.span, "first here"));
            }
            None => seen.push(name),
        }
    }
}

/// RedundantTargetPlatform and FromPlatformFlagConstDisallowed.
fn platforms(file: &File, diagnostics: &mut Vec<Diagnostic>) {
    for (_, from) in froms(file) {
        let Some(platform) = &from.platform else { continue };
        if matches!(platform.value.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            let message = "--platform=$TARGETPLATFORM is what FROM does without it";
            warn(diagnostics, "RedundantTargetPlatform", platform.span, message, "remove the flag");
        }
        let named = from.name.as_ref().is_some_and(|name| platform.value.split('/').any(|part| name.value.contains(&part.to_lowercase())));
        if !platform.value.contains('$') && !named {
            let message = format!("--platform is the constant `{}`: the stage is the same whatever is asked for", platform.value);
            warn(diagnostics, "FromPlatformFlagConstDisallowed", platform.span, message, "use $BUILDPLATFORM, or name the stage after the platform");
        }
    }
}

/// JSONArgsRecommended: a shell in between does not pass signals on.
fn shell_forms(file: &File, diagnostics: &mut Vec<Diagnostic>) {
    let mut shell_set = false;
    for instruction in &file.instructions {
        match &instruction.command {
            Command::From(_) => shell_set = false,
            Command::Shell(_) => shell_set = true,
            Command::Cmd(CommandLine::Shell(text)) | Command::Entrypoint(CommandLine::Shell(text)) if !shell_set && !text.value.is_empty() => {
                let name = instruction.command.name();
                let message = format!("{name} goes through a shell, which does not pass signals on");
                warn(diagnostics, "JSONArgsRecommended", instruction.keyword.span, message, format!("write it as JSON: {name} [\"program\", \"argument\"]"));
            }
            _ => {}
        }
    }
}

/// MultipleInstructionsDisallowed: only the last CMD, ENTRYPOINT and HEALTHCHECK of a stage count.
fn once_a_stage(file: &File, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen: Vec<&Instruction> = Vec::new();
    for instruction in &file.instructions {
        match instruction.command {
            Command::From(_) => seen.clear(),
            Command::Cmd(_) | Command::Entrypoint(_) | Command::Healthcheck(_) => {
                let name = instruction.command.name();
                if let Some(index) = seen.iter().position(|known| known.command.name() == name) {
                    let earlier = seen.remove(index);
                    let finding = Diagnostic::warning("MultipleInstructionsDisallowed", format!("this {name} has no effect: the stage has a later one"));
                    diagnostics.push(finding.at(earlier.keyword.span).related(instruction.keyword.span, "this one counts"));
                }
                seen.push(instruction);
            }
            _ => {}
        }
    }
}

/// MaintainerDeprecated.
fn deprecated(file: &File, diagnostics: &mut Vec<Diagnostic>) {
    for instruction in &file.instructions {
        if let Command::Maintainer(author) = &instruction.command {
            let help = format!("write LABEL org.opencontainers.image.authors=\"{}\"", author.value.replace('"', ""));
            warn(diagnostics, "MaintainerDeprecated", instruction.keyword.span, "MAINTAINER is deprecated", help);
        }
    }
}

/// SecretsUsedInArgOrEnv: they end in the image or its history.
fn secrets(file: &File, diagnostics: &mut Vec<Diagnostic>) {
    for instruction in &file.instructions {
        let names: Vec<&Text> = match &instruction.command {
            Command::Arg(arguments) => arguments.iter().map(|argument| &argument.name).collect(),
            Command::Env(pairs) => pairs.pairs.iter().map(|pair| &pair.key).collect(),
            _ => continue,
        };
        for name in names.into_iter().filter(|name| is_secret(&name.value)) {
            let message = format!("`{}` looks like a secret: {} would show it to everyone who has the image", name.value, instruction.command.name());
            warn(diagnostics, "SecretsUsedInArgOrEnv", name.span, message, "give it to the running container instead");
        }
    }
}

fn is_secret(name: &str) -> bool {
    const SECRET: [&str; 10] = ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|word| words.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}

/// LegacyKeyValueFormat.
fn legacy_pairs(file: &File, diagnostics: &mut Vec<Diagnostic>) {
    for instruction in &file.instructions {
        if let Command::Env(pairs) | Command::Label(pairs) = &instruction.command
            && pairs.legacy
        {
            let name = instruction.command.name();
            let message = format!("`{name} key value` is the old form");
            warn(diagnostics, "LegacyKeyValueFormat", instruction.keyword.span, message, format!("write {name} key=value"));
        }
    }
}

/// InvalidDefinitionDescription: the comment right above a stage or an argument is what `--call=outline` shows of it, when it begins with its name.
fn descriptions(file: &File, diagnostics: &mut Vec<Diagnostic>) {
    for instruction in &file.instructions {
        let names: Vec<&str> = match &instruction.command {
            Command::Arg(arguments) => arguments.iter().map(|argument| argument.name.value.as_str()).collect(),
            Command::From(from) => from.name.iter().map(|name| name.value.as_str()).collect(),
            _ => continue,
        };
        let Some(comment) = instruction.comments.last().filter(|comment| !comment.value.is_empty() && !is_check(&comment.value)) else { continue };
        let first = comment.value.split_whitespace().next().unwrap_or_default();
        if names.is_empty() || names.contains(&first) {
            continue;
        }
        let shown = if let [only] = names.as_slice() { only } else { "NAME" };
        let message = format!("the comment above {} does not begin with its name, so it describes nothing", instruction.command.name());
        warn(diagnostics, "InvalidDefinitionDescription", comment.span, message, format!("write `# {shown} <description>`, or leave an empty line below it"));
    }
}

/// `check=…` in a comment.
fn is_check(comment: &str) -> bool {
    comment.strip_prefix("check").is_some_and(|rest| rest.trim_start().starts_with('='))
}
