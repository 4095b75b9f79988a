//! `--call` and `--check`: what a Dockerfile offers and what is wrong with it, without building.

use serde_json::{Value, json};
use strake_dockerfile::Command;
use strake_source::{Severity, Sources};
use strake_stages::{Base, Request, Stage, StageGraph};

use crate::args::Format;
use crate::commands::check::finding;
use crate::failure::Failure;
use crate::output::{data, say, table};
use strake_source::Diagnostic;

/// What to do with a Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Build,
    Check(Format),
    Outline(Format),
    Targets(Format),
}

impl Call {
    /// Whether what is printed is for programs.
    pub fn is_data(self) -> bool {
        matches!(self, Call::Check(format) | Call::Outline(format) | Call::Targets(format) if format != Format::Text)
    }

    /// Reads `check`, `outline,format=json`, ….
    pub fn parse(text: Option<&str>, check: bool) -> Result<Call, Failure> {
        let wrong = |what: &str| Failure::text(format!("--call {}: {what}", text.unwrap_or_default())).with_code(2);
        let Some(word) = text else { return Ok(if check { Call::Check(Format::Text) } else { Call::Build }) };
        let (name, rest) = word.split_once(',').unwrap_or((word, ""));
        let format = match rest {
            "" | "format=text" => Format::Text,
            "format=json" => Format::Json,
            _ => return Err(wrong("expected format=text or format=json after the comma")),
        };
        match name {
            "build" if check => Ok(Call::Check(Format::Text)),
            "build" => Ok(Call::Build),
            "check" | "lint" => Ok(Call::Check(format)),
            "outline" => Ok(Call::Outline(format)),
            "targets" => Ok(Call::Targets(format)),
            _ => Err(wrong("expected build, check, outline or targets")),
        }
    }
}

/// Shows what was found; a finding of any kind is a failure, as for `docker build --check`.
pub fn check(sources: &Sources, findings: &[Diagnostic], format: Format) -> Result<(), Failure> {
    let found: Vec<&Diagnostic> = findings.iter().filter(|finding| finding.severity != Severity::Note).collect();
    if format == Format::Text {
        super::report(sources, findings);
        if found.is_empty() {
            say("check complete, no warnings found");
        }
    } else {
        let rows: Vec<Value> = findings.iter().map(|diagnostic| finding(sources, diagnostic)).collect();
        say(data(&rows, format));
    }
    if found.is_empty() { Ok(()) } else { Err(Failure::silent(1)) }
}

/// Lists the stages that `--target` may name.
pub fn targets(request: &Request, format: Format) -> Result<(), Failure> {
    let graph = graph(request)?;
    let base = |stage: &Stage| match &stage.base {
        Some(Base::Image(image)) => image.reference.clone(),
        Some(Base::Stage(index)) => graph.label(*index),
        Some(Base::Context(name) | Base::Built(name)) => name.clone(),
        Some(Base::Scratch) | None => "scratch".to_owned(),
    };
    let rows: Vec<(String, String, bool)> =
        graph.stages.iter().enumerate().map(|(index, stage)| (graph.label(index), base(stage), index + 1 == graph.stages.len())).collect();
    if format == Format::Text {
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, base, default)| vec![name, if default { "yes".to_owned() } else { String::new() }, base]).collect();
        say(table(&["TARGET", "DEFAULT", "FROM"], &rows));
    } else {
        let rows: Vec<Value> = rows.into_iter().map(|(name, base, default)| json!({"name": name, "base": base, "default": default})).collect();
        say(data(&json!({ "targets": rows }), format));
    }
    Ok(())
}

/// Shows what the target stage and those it starts from can be given: build arguments, secrets, SSH agents.
pub fn outline(request: &Request, format: Format) -> Result<(), Failure> {
    let graph = graph(request)?;
    let first = graph.stages.first().map_or(0, |stage| stage.from);
    let mut spans = vec![(0, first)];
    let mut next = Some(graph.target);
    while let Some(stage) = next.and_then(|index| graph.stages.get(index)) {
        spans.push((stage.from, stage.end));
        next = if let Some(Base::Stage(parent)) = stage.base { Some(parent) } else { None };
    }
    spans.sort_unstable();
    let mut args: Vec<(String, String)> = Vec::new();
    let (mut secrets, mut agents) = (Vec::<(String, bool)>::new(), Vec::<(String, bool)>::new());
    for instruction in spans.into_iter().flat_map(|(from, end)| &request.file.instructions[from..end]) {
        match &instruction.command {
            Command::Arg(arguments) => {
                for argument in arguments {
                    let (name, default) = (&argument.name.value, argument.default.as_ref().map(|default| default.value.clone()));
                    let value = request.build_args.get(name).cloned().flatten().or(default).unwrap_or_default();
                    args.retain(|(known, shown)| known != name || !shown.is_empty());
                    if !args.iter().any(|(known, _)| known == name) {
                        args.push((name.clone(), value));
                    }
                }
            }
            Command::Run(run) => {
                for mount in &run.mounts {
                    let required = mount.option("required").is_some_and(|value| !value.eq_ignore_ascii_case("false"));
                    let id = mount.option("id").or(mount.option("source"));
                    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
                    let (list, id) = match mount.option("type") {
                        Some("secret") => (&mut secrets, id.map_or_else(|| name(mount.option("target").unwrap_or_default()), str::to_owned)),
                        Some("ssh") => (&mut agents, id.unwrap_or("default").to_owned()),
                        _ => continue,
                    };
                    match list.iter_mut().find(|(known, _)| *known == id) {
                        Some((_, known)) => *known |= required,
                        None => list.push((id, required)),
                    }
                }
            }
            _ => {}
        }
    }
    show_outline(&graph.label(graph.target), (&args, &secrets, &agents), format);
    Ok(())
}

type Outline<'a> = (&'a [(String, String)], &'a [(String, bool)], &'a [(String, bool)]);

fn show_outline(name: &str, (args, secrets, agents): Outline<'_>, format: Format) {
    if format != Format::Text {
        let named = |list: &[(String, bool)]| -> Vec<Value> { list.iter().map(|(name, required)| json!({"name": name, "required": required})).collect() };
        let args: Vec<Value> = args.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        say(data(&json!({"name": name, "args": args, "secrets": named(secrets), "ssh": named(agents)}), format));
        return;
    }
    say(format!("TARGET: {name}"));
    if !args.is_empty() {
        let rows: Vec<Vec<String>> = args.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
        say(format!("\n{}", table(&["BUILD ARG", "VALUE"], &rows)));
    }
    for (title, list) in [("SECRET", secrets), ("SSH", agents)].into_iter().filter(|(_, list)| !list.is_empty()) {
        let rows: Vec<Vec<String>> = list.iter().map(|(name, required)| vec![name.clone(), if *required { "yes".to_owned() } else { String::new() }]).collect();
        say(format!("\n{}", table(&[title, "REQUIRED"], &rows)));
    }
}

fn graph(request: &Request) -> Result<StageGraph, Failure> {
    let mut findings = Vec::new();
    StageGraph::build(request, &mut findings)
        .ok_or_else(|| Failure::text(findings.first().map_or("there is no stage".to_owned(), |finding| finding.message.clone())))
}

#[cfg(test)]
mod tests {
    use super::Call;
    use crate::args::Format;

    #[test]
    fn calls_are_read_or_refused() {
        let of = |text| Call::parse(text, false).ok();
        assert_eq!((of(None), of(Some("build"))), (Some(Call::Build), Some(Call::Build)));
        assert_eq!(of(Some("check,format=json")), Some(Call::Check(Format::Json)));
        assert_eq!(of(Some("targets")), Some(Call::Targets(Format::Text)));
        assert_eq!((of(Some("dance")), of(Some("check,format=xml"))), (None, None));
        assert_eq!(Call::parse(None, true).ok(), Some(Call::Check(Format::Text)));
    }
}
