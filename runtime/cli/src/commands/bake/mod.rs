//! `strake bake`: the targets of bake files and compose files, built as one graph.

mod allow;
mod files;
mod show;
mod words;

use std::path::Path;

use strake_bake::{Config, Resolved, attestation};
use strake_source::{Diagnostic, Sources};
use strake_store::Store;

use crate::args::{Bake, builder};
use crate::commands::build::{self, Needed, Part};
use crate::failure::Failure;
use crate::output::say;
pub use files::any_in;

/// Reads, resolves, and prints, lists or builds.
pub fn run(root: &Path, args: &Bake) -> Result<(), Failure> {
    builder(args.builder.as_deref())?;
    let (inputs, targets, dir) = files::inputs(root, args)?;
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
    build::run_parts(root, &parts(args, &resolved, &dir)?, args.metadata_file.as_deref())
}

/// What all targets of the files take from elsewhere, whichever of them is built: for a lock file.
pub fn needed(root: &Path, store: &Store, args: &Bake) -> Result<Needed, Failure> {
    let (inputs, _, dir) = files::inputs(root, args)?;
    let mut sources = Sources::default();
    let (config, findings) = strake_bake::read(&mut sources, &inputs);
    build::report(&sources, &findings);
    let names: Vec<String> = config.targets.iter().map(|target| target.name.clone()).collect();
    if findings.iter().any(Diagnostic::is_error) {
        return Err(Failure::silent(1));
    }
    if names.is_empty() {
        return Ok(Needed::default());
    }
    let (mut resolved, findings) = config.resolve(&names, &[], &inputs);
    build::report(&sources, &findings);
    if findings.iter().any(Diagnostic::is_error) {
        return Err(Failure::silent(1));
    }
    resolved.targets.retain(|name, target| target.linked || !is_inherited(&config, name) || words::has_dockerfile(target));
    allow::check_reads(&resolved, args, &inputs)?;
    build::needed(store, &parts(args, &resolved, &dir)?)
}

fn is_inherited(config: &Config, name: &str) -> bool {
    config.targets.iter().any(|target| target.inherits.iter().any(|parent| parent == name))
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

fn parts(args: &Bake, resolved: &Resolved, lock_dir: &Path) -> Result<Vec<Part>, Failure> {
    let mut parts = Vec::new();
    for target in resolved.in_order() {
        let args = words::build(target, args, lock_dir)?;
        let links = target.links().map(|(name, other)| (name.to_owned(), other.to_owned())).collect();
        let has_output = !target.outputs.iter().flatten().any(|output| output.kind == "cacheonly");
        parts.push(Part { name: target.name.clone(), args, links, linked: target.linked, named: has_output });
    }
    Ok(parts)
}
