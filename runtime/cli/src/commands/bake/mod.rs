//! `strake bake`: the targets of bake files and compose files, built as one graph.

mod allow;
mod files;
mod show;
mod words;

use std::path::Path;

use strake_bake::{Resolved, attestation};
use strake_source::{Diagnostic, Sources};

use crate::args::Bake;
use crate::commands::build::{self, Part};
use crate::failure::Failure;
use crate::output::say;

/// Reads, resolves, and prints, lists or builds.
pub fn run(root: &Path, args: &Bake) -> Result<(), Failure> {
    let (inputs, targets) = files::inputs(root, args)?;
    let mut sources = Sources::default();
    let (config, findings) = strake_bake::read(&mut sources, &inputs);
    build::report(&sources, &findings);
    if findings.iter().any(Diagnostic::is_error) {
        return Err(Failure::silent(1));
    }
    if let Some(list) = &args.list {
        return show::list(list, &config);
    }
    let (resolved, findings) = config.resolve(targets, &settings(args), &inputs);
    build::report(&sources, &findings);
    if findings.iter().any(Diagnostic::is_error) {
        return Err(Failure::silent(1));
    }
    if args.print {
        say(serde_json::to_string_pretty(&resolved.to_json())?);
        return Ok(());
    }
    allow::check(&resolved, args, &inputs)?;
    build(root, args, &resolved)
}

/// What the flags mean for all targets, behind what `--set` says.
fn settings(args: &Bake) -> Vec<String> {
    let mut settings = args.settings.clone();
    settings.extend(args.push.then(|| "*.push=true".to_owned()));
    settings.extend(args.load.then(|| "*.load=true".to_owned()));
    settings.extend(args.no_cache.map(|wanted| format!("*.no-cache={wanted}")));
    settings.extend(args.pull.map(|wanted| format!("*.pull={wanted}")));
    settings.extend(args.sbom.as_ref().map(|text| format!("*.attest={}", attestation("sbom", text))));
    settings.extend(args.provenance.as_ref().map(|text| format!("*.attest={}", attestation("provenance", text))));
    settings.extend(args.call.as_ref().map(|call| format!("*.call={}", call.split(',').next().unwrap_or_default())));
    settings.extend(args.check.then(|| "*.call=check".to_owned()));
    settings
}

fn build(root: &Path, args: &Bake, resolved: &Resolved) -> Result<(), Failure> {
    let mut parts = Vec::new();
    for target in resolved.in_order() {
        let args = words::build(target, args)?;
        let links = target.links().map(|(name, other)| (name.to_owned(), other.to_owned())).collect();
        let has_output = !target.outputs.iter().flatten().any(|output| output.kind == "cacheonly");
        parts.push(Part { name: target.name.clone(), args, links, linked: target.linked, named: has_output });
    }
    build::run_parts(root, &parts, args.metadata_file.as_deref())
}
