//! Which variables have which values: build arguments, platform arguments, the environment.

use std::collections::BTreeMap;

use strake_dockerfile::{Command, ExpandError, Text, expand};
use strake_source::{Diagnostic, Span, nearest};

use crate::Request;

/// Variables that need no ARG line, whatever their case.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Names and values in the order they were last set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    /// The names that have a value, and those that an ARG declares without one.
    pub(crate) fn declared_with<'e>(&'e self, args: &'e [(String, Option<String>)]) -> Vec<&'e str> {
        self.0.iter().map(|(name, _)| name.as_str()).chain(args.iter().map(|(name, _)| name.as_str())).collect()
    }

    pub(crate) fn from_pairs(pairs: &[String]) -> Self {
        let mut environment = Environment::default();
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            environment.set(name, value);
        }
        environment
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Sets a variable; it becomes the last one.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// `NAME=value` in order.
    pub(crate) fn pairs(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// The value of a build argument that was given.
pub(crate) fn build_arg<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    request.build_args.get(name)?.as_deref()
}

/// The platform arguments, which FROM lines see without an ARG.
fn platform_args(request: &Request) -> Vec<(&'static str, String)> {
    let (target, build) = (&request.platform, &request.build_platform);
    let stage = request.target.clone().unwrap_or_else(|| "default".to_owned());
    vec![
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", target.variant.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETSTAGE", stage),
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", build.variant.clone()),
        ("BUILDOSVERSION", String::new()),
    ]
}

/// The global scope: platform arguments, then the ARGs before the first FROM, each seeing those before it. Build arguments win when they are `given`.
pub(crate) fn globals(request: &Request, given: bool, diagnostics: &mut Vec<Diagnostic>) -> Environment {
    let mut globals = Environment::default();
    let build_arg = |name: &str| build_arg(request, name).filter(|_| given);
    for (name, value) in platform_args(request) {
        globals.set(name, build_arg(name).unwrap_or(&value));
    }
    let before = request.file.instructions.iter().take_while(|instruction| !matches!(instruction.command, Command::From(_)));
    let arguments = before.filter_map(|instruction| if let Command::Arg(arguments) = &instruction.command { Some(arguments) } else { None }).flatten();
    for argument in arguments {
        let name = argument.name.value.as_str();
        if let Some(value) = build_arg(name) {
            globals.set(name, value);
        } else if let Some(default) = &argument.default
            && let Some(value) = expand_global(request, default, &globals, "UndefinedVar", diagnostics)
        {
            globals.set(name, &value);
        }
    }
    globals
}

/// Proxy variables that were given, in both cases, less those in `declared`.
pub(crate) fn proxies(request: &Request, declared: &Environment) -> Vec<String> {
    let mut pairs = BTreeMap::new();
    for (name, value) in &request.build_args {
        let lower = name.to_lowercase();
        let Some(value) = value.as_ref().filter(|_| PROXIES.contains(&lower.as_str())) else { continue };
        pairs.insert(name.to_uppercase(), value);
        pairs.insert(lower, value);
    }
    pairs.retain(|name, _| declared.get(name).is_none());
    pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Expands a word with the global scope. `None` when it cannot be, which has been reported.
pub(crate) fn expand_global(request: &Request, text: &Text, globals: &Environment, check: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<String> {
    match expand(&text.value, &|name| globals.get(name).map(str::to_owned), request.file.directives.escape) {
        Ok(expanded) => {
            warn_unmatched(&expanded.unmatched, &globals.declared_with(&[]), check, text.span, diagnostics);
            Some(expanded.text)
        }
        Err(error) => {
            diagnostics.push(expansion_error(&error, text.span));
            None
        }
    }
}

pub(crate) fn expansion_error(error: &ExpandError, span: Span) -> Diagnostic {
    Diagnostic::error("expansion", error.to_string()).at(span)
}

/// Warns of variables that have no value and that nothing declares.
pub(crate) fn warn_unmatched(names: &[String], declared: &[&str], check: &'static str, span: Span, diagnostics: &mut Vec<Diagnostic>) {
    for name in names.iter().filter(|name| !declared.contains(&name.as_str())) {
        let mut finding = Diagnostic::warning(check, format!("usage of undefined variable '${name}': it is empty")).at(span);
        if let Some(near) = nearest(name, declared.iter().copied()) {
            finding = finding.help(format!("did you mean ${near}?"));
        } else if check == "UndefinedVar" {
            finding = finding.help(format!("declare it in this stage: ARG {name}"));
        }
        diagnostics.push(finding);
    }
}
